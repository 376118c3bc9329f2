"""The files of a dataset: found, verified, and placed as one zip."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from filelock import FileLock, Timeout

from aeflow.core.errors import AccessError, ConfigError, DataError
from aeflow.core.files import atomic_path, read_json, require_space, write_json, writing
from aeflow.data.archives import archive_kind, archive_members, file_member, open_zip, store
from aeflow.data.download import Patience, discard, is_download
from aeflow.data.sources import (
    Facts,
    NoSourceError,
    check_file,
    first_source,
    is_pinned,
    recipe,
    replaced_files,
)
from aeflow.study.cards import DatasetCard, SourceFile

logger = logging.getLogger(__name__)
PATIENCE = Patience()
# Checksums that no source publishes: recorded at the first download, required from then on. Not
# beside the archive: Snakemake deletes a rule's outputs before each attempt, data/ is not in git,
# and a file in git makes everyone's download the same.
CHECKSUMS = Path("config/checksums")


def fetch_dataset(
    card: DatasetCard,
    destination: Path,
    mirror: str | None,
    source: str | None = None,
    sha256: str | None = None,
    patience: Patience = PATIENCE,
) -> dict[str, Any]:
    """Fetch a dataset and place it at `destination` as one zip.

    A single zip is placed as it is. Anything else becomes a stored zip: of several archives each
    one's members go below a folder named by its stem, a plain file (.npz, .csv) is a member at
    the top. Files that are no images are then converted. See `first_source` for how each file is
    found. Of two processes that want the same destination, the second waits for the first and
    downloads nothing.

    Args:
        mirror: AEFLOW_MIRROR, if set; stands for the card's files alone.
        source: Replaces the card's files, see `replaced_files`; `sha256` is its checksum.

    Returns:
        `files`, with `name`, `sha256` and `size_bytes` of each file fetched; and where one zip was
        placed as it is, `sha256`: {"archive": its checksum}. Nothing about where from, so that
        another mirror of the same bytes changes nothing.

    Raises:
        AccessError: the files have to be asked for; says how.
        ConfigError: as `replaced_files`, or the card names no files and there is no `source`.
        DataError: no source had the right files, an archive is unreadable or unsafe, or
            `destination` cannot be written.
    """
    if source is None and not card.files:
        raise ConfigError(f"The card {card.name} names no files: give the dataset a `source`.")
    done = _beside(destination, "-files.json")
    before = _stamp(done)
    with only_process(destination):
        if _stamp(done) not in (None, before) and destination.exists():
            logger.info("%s: another process has just fetched it", card.name)
            return dict(read_json(done))
        files = replaced_files(card, source, sha256) if source else known_files(card)
        try:
            # A mirror stands for official files: what a study names is that and nothing else.
            official = mirror if source is None else None
            facts = _fetch_all(card, files, destination, official, patience)
        except NoSourceError as error:
            if source is not None:
                failed = "; ".join(error.reasons)
                raise DataError(
                    f"Cannot get {failed}. Mend that, or name another `source`: a folder, a zip "
                    "or tar archive, or a URL. Then run the same command again."
                ) from error
            if card.access == "request":
                raise AccessError(recipe(card, error)) from error
            record, known = _recorded(card)
            if error.file.name in known:
                note = f"Its checksum is that of the first download: delete {record} to accept"
                raise DataError(f"{error} {note} another.") from error
            raise
        if source is None:
            _record_checksums(card, facts["files"])
        write_json(done, facts)
        return facts


def fetch_file(
    file: SourceFile, destination: Path, mirror: str | None, patience: Patience = PATIENCE
) -> Facts:
    """Place one checked file at `destination`, see `first_source`; return its facts.

    Raises:
        DataError: no source had the right file; says why, and how to get it by hand. Or the
            destination cannot be written.
    """
    original = _beside(destination, f".{file.name}")
    with only_process(destination), atomic_path(destination) as part:
        facts = first_source(file, original, mirror, check_file, patience)
        original.replace(part)
        discard(original)
        return facts


def known_files(card: DatasetCard) -> list[SourceFile]:
    """Return the card's files, those without a checksum with the recorded one."""
    _, known = _recorded(card)
    return [
        file if is_pinned(file) else file.model_copy(update=known.get(file.name, {}))
        for file in card.files
    ]


def _recorded(card: DatasetCard) -> tuple[Path, dict[str, Any]]:
    """Return where the dataset's checksums are recorded, and them by name of the file."""
    path = CHECKSUMS / f"{card.name}.json"
    return path, read_json(path) if path.exists() else {}


def _record_checksums(card: DatasetCard, facts: Sequence[Facts]) -> None:
    """Record what was fetched of the files whose card has no checksum, if it is not yet."""
    path, known = _recorded(card)
    for file, found in zip(card.files, facts, strict=True):
        if not is_pinned(file):
            if file.name not in known:
                known[file.name] = {key: found[key] for key in ("sha256", "size_bytes")}
                write_json(path, known)
            logger.warning(
                "%s: the card has no checksum; that of the first download, sha256 %s, is required "
                "(%s: commit it, or delete it to accept another file)",
                file.name,
                known[file.name]["sha256"],
                path,
            )


def _fetch_all(
    card: DatasetCard,
    files: Sequence[SourceFile],
    destination: Path,
    mirror: str | None,
    patience: Patience,
) -> dict[str, Any]:
    originals = [_beside(destination, f".{file.name}") for file in files]
    unconverted = _beside(destination, "-files.zip")
    with atomic_path(destination) as part:
        try:
            found = [
                first_source(file, original, mirror, _check_archive, patience)
                for file, original in zip(files, originals, strict=True)
            ]
            facts: dict[str, Any] = {"files": found}
            if card.conversion is not None:
                from aeflow.data.convert import convert_archive  # needs nibabel

                _place(files, originals, unconverted)
                number = convert_archive(card.conversion, unconverted, part)
                logger.info("%s: %d images written", card.name, number)
            elif _place(files, originals, part):
                facts["sha256"] = {"archive": found[0]["sha256"]}
        finally:
            unconverted.unlink(missing_ok=True)
            for original in originals:
                # What took long stays: a download, broken off or waiting for another file.
                if not is_download(original):
                    discard(original)
    for original in originals:
        discard(original)
    return facts


def _check_archive(file: SourceFile, path: Path) -> Facts:
    """Check a file of a dataset and return its facts; a tar is read when it is repacked."""
    facts = check_file(file, path)
    if not file.is_plain and archive_kind(path) == "zip":
        open_zip(path).close()
    return facts


def _place(files: Sequence[SourceFile], originals: Sequence[Path], target: Path) -> bool:
    """Make one zip of a dataset's files, see `fetch_dataset`; tell whether it is their only one.

    A damaged file is discarded.
    """
    kinds = [
        "plain" if file.is_plain else archive_kind(original)
        for file, original in zip(files, originals, strict=True)
    ]
    if kinds == ["zip"]:
        originals[0].replace(target)
        return True
    # Images hardly compress, so that a compressed tar is about as large as its content.
    needed = sum(
        sum(size for _, size, _ in archive_members(original))
        if kind == "zip"
        else original.stat().st_size
        for original, kind in zip(originals, kinds, strict=True)
    )
    names = ", ".join(file.name for file in files)
    require_space(target.parent, needed, f"The zip of {names}")
    logger.info("Packing %s into one zip", names)
    with ZipFile(target, "w") as placed:
        for file, original, kind in zip(files, originals, kinds, strict=True):
            folder = file.stem if len(files) > 1 else ""
            try:
                if kind == "plain":
                    store(placed, file_member(original, file.name))
                else:
                    store(placed, archive_members(original), folder)
            except DataError as error:
                discard(original)
                # By its name: the place is ours.
                told = str(error).replace(str(original), file.name)
                raise type(error)(told) from error
    return False


@contextmanager
def only_process(destination: Path) -> Iterator[None]:
    """Let one process at a time write `destination`; a killed one lets go by itself."""
    with writing(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        path = _beside(destination, "-lock")
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


def _beside(destination: Path, ending: str) -> Path:
    """Return a hidden path: `.<name of a file>` until it is placed, perhaps over several runs."""
    return destination.with_name(f".{destination.name.lstrip('.')}{ending}")


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is written again."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
