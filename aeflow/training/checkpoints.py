"""Checkpoints: tensors with a JSON beside them that says what they were made from."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from aeflow.core.errors import CheckpointError, DataError
from aeflow.core.files import read_json, sha256_file
from aeflow.core.types import Method
from aeflow.study.settings import FitSettings

PACKAGES = ("aeflow", "numpy", "safetensors", "timm", "torch", "torchmetrics", "torchvision")
# Whose SHA-256 the manifest of the features holds.
INPUTS = ("features", "images", "weights")


def versions() -> dict[str, str]:
    """Return the versions of what shapes a training's numbers."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def origin(
    method: Method, settings: FitSettings, features_manifest: Path, index: Path
) -> dict[str, Any]:
    """Return what a training, whatever its seed, is made from; a scoring must find the same.

    Args:
        method: a trained one.
        settings: of the cell.
        features_manifest: JSON that `extract_features` wrote.
        index: of the prepared images.

    Raises:
        DataError: the manifest is missing or no JSON.
    """
    manifest = read_json(features_manifest)
    hashes = {f"{name}_sha256": manifest[f"{name}_sha256"] for name in INPUTS}
    hashes["index_sha256"] = sha256_file(index)
    return {"method": method.value, "settings": settings.model_dump(mode="json"), **hashes}


def load_checkpoint(model: nn.Module, path: Path, summary: Path, expected: dict[str, Any]) -> None:
    """Load a checkpoint into `model` after comparing it with its JSON and the configuration.

    Args:
        model: built from the configuration.
        path: the safetensors file.
        summary: its JSON, with `model_sha256`.
        expected: keys and values that the JSON must have.

    Raises:
        CheckpointError: the file was changed, or belongs to another configuration.
    """
    try:
        described = read_json(summary)
    except DataError as error:
        raise CheckpointError(f"{error} It describes {path} (train_model makes both).") from error
    differences = _differences({key: described.get(key) for key in expected}, expected)
    if differences:
        raise CheckpointError(
            f"{path} was made from something else than configured now, as {summary} says "
            f"({'; '.join(differences)}): run train_model again."
        )
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: pull it or run train_model again.")
    if sha256_file(path) != described.get("model_sha256"):
        raise CheckpointError(
            f"{path} is not the file that {summary} describes (another SHA-256): restore it or "
            "run train_model again."
        )
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} does not fit the configured model ({error}): run train_model again."
        ) from error


def _differences(found: Any, wanted: Any, key: str = "") -> list[str]:
    """Return "key: found, not wanted" of each value that differs, keys of keys with dots."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [
            line
            for name in sorted({*found, *wanted})
            for line in _differences(found.get(name), wanted.get(name), f"{key}.{name}")
        ]
    return [] if found == wanted else [f"{key[1:]}: {found!r}, not {wanted!r}"]
