"""Tensors on disk: safetensors with facts about them. Nothing is unpickled."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from aeflow.core.errors import DataError
from aeflow.core.files import atomic_path, loading


def save_tensors(
    path: Path, tensors: dict[str, Tensor], facts: dict[str, str] | None = None
) -> None:
    """Write tensors atomically, with facts about them; the same content gives the same bytes."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry, since the library writes several in random order. Its `save_file` would make a
    # file that only its owner can read, and leave another one behind when it is killed.
    content = save(contiguous, {"facts": json.dumps(facts or {}, sort_keys=True)})
    with atomic_path(path) as part:
        part.write_bytes(content)


def read_facts(path: Path) -> dict[str, str]:
    """Return the facts that `save_tensors` wrote, without reading the tensors.

    Raises:
        DataError: the file is missing, damaged, or was not written by `save_tensors`.
    """
    with loading(path, OSError, SafetensorError), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    try:
        facts = json.loads(metadata.get("facts", ""))
    except (ValueError, RecursionError):  # no JSON, or one without end
        facts = None
    if not isinstance(facts, dict):
        raise DataError(f"{path} was not written by this program: delete it and run again.")
    return facts


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file; DataError: it is missing or damaged."""
    with loading(path, OSError, SafetensorError):
        return load_file(path)
