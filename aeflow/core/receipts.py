"""Receipts: what a job made, from what, as asked for by which settings, with which versions.

One form for every job, in git beside payload that is not. A receipt names files by their paths
from the root of the repository, and is sealed: an edit by hand is found out (`aeflow doctor`).
"""

import hashlib
import importlib.metadata
import json
import math
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aeflow.core.errors import DataError
from aeflow.core.files import read_json, sha256_file, write_json

# Package -> its top module. Of these, a receipt names what the job had imported.
PACKAGES = {
    **{"anomalib": "anomalib", "nibabel": "nibabel", "numpy": "numpy", "pandas": "pandas"},
    **{"pillow": "PIL", "safetensors": "safetensors", "scipy": "scipy", "timm": "timm"},
    **{"torch": "torch", "torchvision": "torchvision"},
}


class Receipt(BaseModel):
    """The content of a receipt."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    made: dict[str, str]  # path -> SHA-256 of each file that the job made
    origin: dict[str, str] = Field(alias="from")  # path -> SHA-256 of each file that it read
    settings: Any  # what it was asked for
    versions: dict[str, str]  # of Python, of this package and of those it had imported
    warnings: list[str]  # what the job warned of
    facts: dict[str, Any]  # what it found out
    seal: str  # SHA-256 of all the rest

    @property
    def sealed(self) -> bool:
        """Whether it is as the job wrote it."""
        return self.seal == _seal(self.model_dump(by_alias=True, exclude={"seal"}))

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file that the job made; DataError: it made no such file."""
        if path.as_posix() not in self.made:
            raise DataError(f"No receipt names {path}: delete the receipt and run snakemake.")
        return self.made[path.as_posix()]


def write_receipt(
    path: Path,
    *,
    made: Mapping[Path, str],
    origin: Mapping[Path, str],
    settings: Any,
    facts: Mapping[str, Any],
    warnings: Iterable[str] = (),
) -> None:
    """Write a receipt; arguments as the attributes of `Receipt`."""
    content = {
        "made": {file.as_posix(): sha256 for file, sha256 in made.items()},
        "from": {file.as_posix(): sha256 for file, sha256 in origin.items()},
        "settings": settings,
        "versions": versions(),
        "warnings": list(dict.fromkeys(warnings)),
        "facts": dict(facts),
    }
    write_json(path, content | {"seal": _seal(content)})


def read_receipt(path: Path) -> Receipt:
    """Read a receipt; DataError: the file is missing, or no receipt."""
    try:
        return Receipt.model_validate(read_json(path))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in error.errors()
        )
        raise DataError(
            f"{path} is no receipt ({wrong}): restore it from git, or delete it and run snakemake."
        ) from error


def check_made(path: Path, receipt_path: Path) -> Receipt:
    """Check that a file is the one that a receipt names, and return the receipt.

    Raises:
        DataError: either is missing, or the file is another one.
    """
    receipt = read_receipt(receipt_path)
    if not path.is_file():
        raise DataError(f"{path} is missing: `dvc pull {path}`, or run the rule that makes it.")
    if sha256_file(path) != receipt.sha256(path):
        raise DataError(
            f"{path} is not the file that {receipt_path} names (another SHA-256): restore it, or "
            "delete both and run snakemake."
        )
    return receipt


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the imported ones of `PACKAGES`."""
    used = [name for name, module in PACKAGES.items() if module in sys.modules]
    found = {name: importlib.metadata.version(name) for name in ("aeflow", *used)}
    return {"python": platform.python_version(), **found}


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(found: Any, wanted: Any, key: str = "") -> Iterator[str]:
    """Yield "key: found, not wanted" of each value that differs, keys of keys with dots.

    Numbers may differ by rounding: another processor adds in another order.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*wanted, *found]):
            yield from differences(
                found.get(name), wanted.get(name), f"{key}.{name}" if key else name
            )
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from differences(one, other, f"{key}[{i}]")
    elif isinstance(found, float) and isinstance(wanted, float):
        if not math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12):
            yield f"{key}: {found!r}, not {wanted!r}"
    elif found != wanted:
        yield f"{key}: {_short(found)}, not {_short(wanted)}"


def _short(value: Any) -> str:
    text = repr(value)
    return f"{len(value)} values" if isinstance(value, dict | list) and len(text) > 40 else text
