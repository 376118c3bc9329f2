"""What DVC records of a payload, computed without DVC."""

import hashlib
import json
from pathlib import Path


def payload_files(payload: Path) -> list[Path]:
    """Return the files of a payload but those that an interrupted job left (.dvcignore)."""
    files = [payload] if payload.is_file() else sorted(payload.rglob("*"))
    return [path for path in files if path.is_file() and not path.name.startswith(".")]


def dvc_md5(payload: Path) -> str:
    """Return the `md5` of a `.dvc` file: of a file's bytes, or of a JSON list of a folder's files.

    Args:
        payload: a file or a folder.
    """
    if payload.is_file():
        return _md5(payload)
    listed = [
        {"md5": _md5(path), "relpath": path.relative_to(payload).as_posix()}
        for path in payload_files(payload)
    ]
    text = json.dumps(sorted(listed, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode()).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
