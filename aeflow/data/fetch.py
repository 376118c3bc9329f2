"""The files of a dataset: found, verified, and placed as one zip."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aeflow.core.errors import AccessError, ConfigError, DataError
from aeflow.core.files import (
    atomic_path,
    read_json,
    sha256_file,
    write_json,
    writing,
)
from aeflow.data.archives import archive_kind, open_zip
from aeflow.data.checksums import read_checksums, record_checksums, recorded_note
from aeflow.data.convert import convert_archive
from aeflow.data.download import WEB_PAGE, Patience, discard, is_download
from aeflow.data.placing import place
from aeflow.data.sources import NoSourceError, by_hand, first_source, recipe, replaced_files
from aeflow.study.cards import DatasetCard, SourceFile

logger = logging.getLogger(__name__)
PATIENCE = Patience()


def fetch_dataset(
    card: DatasetCard,
    destination: Path,
    manifest_path: Path,
    mirror: str | None,
    source: str | None = None,
    sha256: str | None = None,
    patience: Patience = PATIENCE,
) -> dict[str, Any]:
    """Fetch or generate a dataset and place it at `destination` as one zip.

    A single zip is placed as it is. Anything else becomes a stored zip: of several archives each
    one's members go below a folder named by its stem, a plain file (.npz, .csv) is a member at
    the top. Files that are no images are then converted. See `first_source` for how each file is
    found. Of two processes that want the same destination, the second waits for the first and
    downloads nothing.

    Args:
        card: The dataset's card.
        destination: The zip to write.
        manifest_path: JSON to write.
        mirror: AEFLOW_MIRROR, if set.
        source: Replaces the card's files: a URL, an archive, a folder of the unpacked content, or
            a folder that holds the card's files by name. The card's checksums do not apply.
        sha256: Checksum of `source`.
        patience: Time-outs and delays of downloads.

    Returns:
        The manifest: `files`, with `name`, `sha256` and `size_bytes` of each file fetched, and
        `placed_sha256`, the checksum of the zip. Nothing about where from, so that another mirror
        of the same bytes changes nothing.

    Raises:
        AccessError: the files have to be asked for; says how.
        ConfigError: as `replaced_files`, or the card names no files and there is no `source`.
        DataError: no source had the right files, an archive is unreadable or unsafe, or
            `destination` cannot be written.
    """
    if source is None and not card.has_source:
        raise ConfigError(f"The card {card.name} names no files: give the dataset a `source`.")
    before = _stamp(manifest_path)
    with _only_process(destination):
        if _stamp(manifest_path) not in (None, before) and destination.exists():
            logger.info("%s: another process has just fetched it", card.name)
            manifest: dict[str, Any] = read_json(manifest_path)
            return manifest
        try:
            if source is not None:
                files = replaced_files(card, source, sha256)
                manifest = _fetch_all(card, files, destination, mirror, patience)
            elif card.generator is not None:
                manifest = _generate(destination)
            else:
                files = read_checksums(card)
                manifest = _fetch_all(card, files, destination, mirror, patience)
                record_checksums(card, manifest["files"])
        except NoSourceError as error:
            if source is None and card.access == "request":
                raise AccessError(recipe(card, error)) from error
            note = recorded_note(card, error.file) if source is None else ""
            raise DataError(by_hand(error) + note) from error
        write_json(manifest_path, manifest)
        return manifest


def fetch_file(
    file: SourceFile, destination: Path, mirror: str | None, patience: Patience = PATIENCE
) -> dict[str, Any]:
    """Place one file at `destination` after checking its size and checksum. See `first_source`.

    Returns:
        `name`, `sha256` and `size_bytes` of what was fetched.

    Raises:
        DataError: no source had the right file; lists each with its reason, and says how to get
            it by hand. Or the destination cannot be written.
    """
    original = _original(destination, file)
    with _only_process(destination), atomic_path(destination) as part:
        try:
            facts = first_source(file, original, mirror, check_file, patience)
        except NoSourceError as error:
            raise DataError(by_hand(error)) from error
        original.replace(part)
        discard(original)
        return facts


def check_file(file: SourceFile, path: Path) -> dict[str, Any]:
    """Check a file's size and checksum, and return its facts: see `fetch_file`.

    Raises:
        DataError: it is another file, or a web page.
    """
    size = path.stat().st_size
    with path.open("rb") as content:
        head = content.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DataError(WEB_PAGE)
    if file.size_bytes not in (None, size):
        cut = ": it was cut off" if size < (file.size_bytes or 0) else ""
        raise DataError(f"the file has {size} bytes instead of {file.size_bytes}{cut}")
    sha256 = sha256_file(path)
    if not sha256.startswith(file.sha256 or ""):
        raise DataError(f"wrong checksum: expected sha256 {file.sha256}, got {sha256}")
    if file.md5 is not None and (md5 := _md5_file(path)) != file.md5:
        raise DataError(f"wrong checksum: expected md5 {file.md5}, got {md5}")
    logger.info("%s: %d bytes, sha256 %s", file.name, size, sha256)
    return {"name": file.name, "sha256": sha256, "size_bytes": size}


@contextmanager
def _only_process(destination: Path) -> Iterator[None]:
    """Let one process at a time write `destination`; a killed one lets go by itself."""
    with writing(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        path = destination.with_name(f".{destination.name.lstrip('.')}.lock")
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.info("Another process is fetching %s: waiting for it", destination)
            lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits for it notices
        lock.release()


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is written again."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _original(destination: Path, file: SourceFile) -> Path:
    """Return where a file lies until it is placed, perhaps over several runs."""
    return destination.with_name(f".{destination.name.lstrip('.')}.{file.name}")


def _generate(destination: Path) -> dict[str, Any]:
    from aeflow.data.demo_textures import write_demo_textures

    with atomic_path(destination) as part:
        write_demo_textures(part)
        return {"files": [], "placed_sha256": sha256_file(part)}


def _fetch_all(
    card: DatasetCard,
    files: Sequence[SourceFile],
    destination: Path,
    mirror: str | None,
    patience: Patience,
) -> dict[str, Any]:
    originals = [_original(destination, file) for file in files]
    unconverted = destination.with_name(f".{destination.name}.files")
    with atomic_path(destination) as part:
        try:
            facts = [
                first_source(file, original, mirror, _check_archive, patience)
                for file, original in zip(files, originals, strict=True)
            ]
            if card.conversion is None:
                place(files, originals, part)
            else:
                place(files, originals, unconverted)
                number = convert_archive(card.conversion, unconverted, part)
                logger.info("%s: %d images written", card.name, number)
        finally:
            unconverted.unlink(missing_ok=True)
            for original in originals:
                # What took long stays: a download, broken off or waiting for another file.
                if not is_download(original):
                    discard(original)
        placed_sha256 = sha256_file(part)
    for original in originals:
        discard(original)
    return {"files": facts, "placed_sha256": placed_sha256}


def _check_archive(file: SourceFile, path: Path) -> dict[str, Any]:
    """Check a file of a dataset and return its facts; a tar is read when it is repacked."""
    facts = check_file(file, path)
    if not file.is_plain and archive_kind(path) == "zip":
        open_zip(path).close()
    return facts


def _md5_file(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
