"""Files that appear under their final name only when complete."""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from aeflow.core.errors import DataError, NoSpaceError

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EFBIG: "files of that size are not allowed here: raise the limit (ulimit -f)",
    errno.EACCES: "no permission to write there: change the permissions of the folder",
    errno.EPERM: "no permission to write there: change the permissions of the folder",
    errno.EROFS: "the file system is read-only: choose a folder that can be written",
    errno.EEXIST: "there is a file where a folder is needed: move it away",
    errno.ENOTDIR: "there is a file where a folder is needed: move it away",
    errno.EISDIR: "there is a folder of that name: move it away",
}


# Whose a part of a file is: host, process, and which of its parts.
_HOST = re.sub(r"\W", "_", platform.node())[:20] or "host"
_NUMBERS = count()
_DAY = 86_400
_PART = re.compile(r"\.(.+)\.(?P<host>\w+)-(?P<pid>\d+)-\d+\.part((?:\.[^.]*)?)")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what keeps a block from writing `path` into a sentence.

    Raises:
        DataError: no space, no permission, a read-only file system or a file for a folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _REMEDIES:
            raise DataError(f"Cannot write {path}: {_REMEDIES[error.errno]}.") from error
        raise


def check_writable(folder: Path) -> None:
    """Check that a file can be made in a folder, or where the folder itself is to be made."""
    with writing(folder):
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        try:
            TemporaryFile(dir=existing).close()
        except FileNotFoundError as error:  # as /proc says it
            raise DataError(f"Cannot write {folder}: {existing} takes no files.") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved onto `path` when the block succeeds.

    Whatever ends the block early, `path` is what it was before and the temporary file is
    gone. A SIGKILL may leave a hidden `.<name>.<whose>.part`, never a half-written `path`; the
    next writer of `path` removes what the dead have left. Two writers never share a file: a job
    outlives a killed Snakemake, whose successor makes the same. The last one's is whole.
    """
    # numpy and matplotlib look at the suffix, so it stays the last part of the name.
    mine = f"{_HOST}-{os.getpid()}-{next(_NUMBERS)}"
    part = path.with_name(f".{path.stem}.{mine}.part{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_left(path)
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """Remove the parts of `path` whose writers are dead."""
    for entry in path.parent.iterdir():
        if (found := _PART.fullmatch(entry.name)) and found[1] + found[4] == path.name:
            with suppress(OSError):
                if is_left(entry):
                    entry.unlink()


def is_left(file: Path) -> bool:
    """Whether a file is what a killed process wrote of another, which nobody goes on with.

    Of another host that cannot be asked: what nobody has written to for a day is left.
    """
    found = _PART.fullmatch(file.name)
    if found is None:
        return False
    if found["host"] == _HOST:
        return not _lives(int(found["pid"]))
    return time.time() - file.stat().st_mtime > _DAY


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        return True
    return True


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_space(folder: Path, needed: int, what: str) -> None:
    """Check that `needed` bytes more fit into `folder`; NoSpaceError: names both numbers."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoSpaceError(
            f"{what} needs {needed / 1e6:,.1f} MB in {folder}, but only {free / 1e6:,.1f} MB are "
            "free there: free some space and run the same command again."
        )


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: keys sorted, two spaces, no NaN (an empty value is null)."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


@contextmanager
def loading(path: Path, *wrong: type[Exception], what: str = "damaged") -> Iterator[None]:
    """Turn what is `wrong` with a file into a sentence; DataError: it is missing, or is that."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the rule that makes it.") from error
    except wrong as error:
        raise DataError(f"{path} is {what} ({error}): delete it and run again.") from error


def read_json(path: Path) -> Any:
    """Read a JSON file; DataError: it is missing or no JSON."""
    # Of the JSON, of the UTF-8, or without end.
    with loading(path, ValueError, RecursionError, what="no valid JSON"):
        return json.loads(path.read_text(encoding="utf-8"))
