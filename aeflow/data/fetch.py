"""The files of a dataset: found where they can be, verified, and placed as one zip."""

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zipfile import ZipFile

from filelock import FileLock, Timeout

from aeflow.core.addresses import PACKAGE, check_address, is_url, local_path, mirrored, public
from aeflow.core.errors import AccessError, ConfigError, DataError, NoSpaceError
from aeflow.core.files import (
    atomic_path,
    read_json,
    require_space,
    sha256_file,
    write_json,
    writing,
)
from aeflow.core.schema import NAME, NO_NAME
from aeflow.data.archives import (
    BLOCK_BYTES,
    archive_kind,
    archive_members,
    file_member,
    open_zip,
    store,
)
from aeflow.data.download import TOLD, WEB_PAGE, Patience, discard, download, is_download
from aeflow.study.cards import DatasetCard, SourceFile

logger = logging.getLogger(__name__)
PATIENCE = Patience()
# Checksums that no source publishes: recorded at the first download, required from then on. Not
# beside the archive: Snakemake deletes a rule's outputs before each attempt, data/ is not in git,
# and a file in git makes everyone's download the same.
CHECKSUMS = Path("config/checksums")
Facts = dict[str, Any]  # name, sha256, size_bytes of a file
Check = Callable[[SourceFile, Path], Facts]


class NoSourceError(DataError):
    """No source had the right file; says why, and how to get it without us."""

    def __init__(self, file: SourceFile, reasons: list[str]) -> None:
        self.file, self.reasons = file, reasons
        failed = "; ".join(reasons) or "no source is known"
        origin = f" from {public(file.urls[0])}" if file.urls else ""
        super().__init__(
            f"Cannot get {file.name} ({failed}). Get it by hand{origin}{_known(file)}, put it "
            f"into a folder under the name {file.name} and run again with AEFLOW_MIRROR=<that "
            "folder>. The configuration can also name another `source` of a dataset."
        )


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


def first_source(
    file: SourceFile, target: Path, mirror: str | None, check: Check, patience: Patience
) -> Facts:
    """Write the file of the first source that passes `check(file, path)`; return its facts.

    Tried in turn: `mirror` (a URL or folder) by the file's name, then the file's own `urls`. Local
    files are copied, never linked: a link would carry an old date, and an edit of the user's file
    would reach our copy. A folder is packed into a zip.

    Raises:
        NoSourceError: no source had it. An interrupted download stays at `target`.
    """
    reasons = []
    for source in [*([mirrored(mirror, file.name)] if mirror else []), *file.urls]:
        logger.info("Fetching %s from %s", file.name, public(source))
        try:
            here = _in_package(source) if source.startswith(PACKAGE) else local_path(source)
            if here is None:
                return _from_server(source, file, target, check, patience)
            return _from_here(here, file, target, check)
        except NoSpaceError:
            raise
        except DataError as error:
            reasons.append(f"{public(source)}: {error}".rstrip("."))
            logger.log(TOLD, "%s", reasons[-1])
    raise NoSourceError(file, reasons)


def check_file(file: SourceFile, path: Path) -> Facts:
    """Check a file's size and checksum, and return its facts.

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
        content.seek(0)
        md5 = hashlib.file_digest(content, "md5").hexdigest() if file.md5 else None
    sha256 = sha256_file(path)
    if not sha256.startswith(file.sha256 or ""):
        raise DataError(f"wrong checksum: expected sha256 {file.sha256}, got {sha256}")
    if md5 != file.md5:
        raise DataError(f"wrong checksum: expected md5 {file.md5}, got {md5}")
    logger.info("%s: %d bytes, sha256 %s", file.name, size, sha256)
    return {"name": file.name, "sha256": sha256, "size_bytes": size}


def replaced_files(card: DatasetCard, source: str, sha256: str | None) -> list[SourceFile]:
    """Return the files that an overlay names by `source` instead of the card's.

    A folder that holds the card's files by name stands for these; anything else is one archive,
    plain file or folder of unpacked content, called like the last part of its path.

    Raises:
        ConfigError: it is no address, or one checksum is given for several files.
    """
    try:
        check_address(source)  # once more: it may be of a command, not of a configuration
    except ValueError as error:
        raise ConfigError(f"source: {error}.") from None
    folder = Path(source).expanduser()
    if card.files and all((folder / file.name).is_file() for file in card.files):
        if sha256 is not None and len(card.files) > 1:
            raise ConfigError(
                f"{source} holds the {len(card.files)} files of {card.name}, so that one sha256 "
                "cannot be right: leave it out."
            )
        return [
            SourceFile(name=file.name, urls=[str(folder / file.name)], sha256=sha256)
            for file in card.files
        ]
    path = urlsplit(source).path if is_url(source) else str(folder.absolute())
    name = re.sub("[^A-Za-z0-9_.-]", "_", Path(path).name)[-64:].lstrip("_.-")
    usable = re.fullmatch(NAME, name) and not NO_NAME.fullmatch(name)
    replaced = SourceFile(name=name if usable else "archive", urls=[source], sha256=sha256)
    if replaced.is_plain and len(card.files) == 1:
        # A plain file becomes a member, and the card knows that by name.
        return [replaced.model_copy(update={"name": card.files[0].name})]
    if replaced.is_plain and not card.has_source and card.conversion is None:
        raise ConfigError(f"source: {public(source)} is one file: name the folder that it is in.")
    return [replaced]


def is_pinned(file: SourceFile) -> bool:
    """Tell whether the file's checksum is known."""
    return file.sha256 is not None or file.md5 is not None


def recipe(card: DatasetCard, error: NoSourceError) -> str:
    """Return the numbered steps to a dataset that has to be asked for, one per line."""
    names = ", ".join(file.name + _known(file) for file in card.files)
    failed = "; ".join(error.reasons) or "AEFLOW_MIRROR is not set"
    steps = [
        *card.recipe,
        f"Put into one folder, under this name: {names}.",
        "Run the same command again with AEFLOW_MIRROR=<that folder>, or give the dataset a "
        "`source` in your configuration: the file, the folder, or the folder it unpacks to.",
    ]
    numbered = [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
    intro = f"{card.title} cannot be downloaded without an account or a request ({failed})."
    return "\n".join([f"{intro} The rest of the study goes on.", *numbered])


def _known(file: SourceFile) -> str:
    """Return what the card knows of a file, in parentheses."""
    facts = [f"{file.size_bytes} bytes"] if file.size_bytes else []
    facts += [f"sha256 {file.sha256}"] if file.sha256 else []
    facts += [f"md5 {file.md5}"] if file.md5 else []
    return f" ({', '.join(facts)})" if facts else ""


def _from_server(
    url: str, file: SourceFile, target: Path, check: Check, patience: Patience, last: bool = False
) -> Facts:
    whole = download(url, target, file, patience)
    try:
        return check(file, target)
    except DataError as error:
        discard(target)
        if whole or last:
            raise
        logger.log(TOLD, "%s: %s It came in pieces: once more from nothing", file.name, error)
    return _from_server(url, file, target, check, patience, last=True)


def _from_here(path: Path, file: SourceFile, target: Path, check: Check) -> Facts:
    copy = target.with_name(f"{target.name}.copy")  # beside a download that may go on later
    try:
        if path.is_dir():
            with ZipFile(copy, "w") as archive:
                store(archive, archive_members(path))
        elif path.is_file():
            _copy(path, copy)
        else:
            raise DataError("there is no such file or folder")
        facts = check(file, copy)
        discard(target)
        copy.replace(target)
        return facts
    finally:
        copy.unlink(missing_ok=True)


def _copy(path: Path, target: Path) -> None:
    require_space(target.parent, path.stat().st_size, path.name)
    try:
        content = path.open("rb")
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}") from error
    with content, target.open("wb") as copy:
        shutil.copyfileobj(content, copy, BLOCK_BYTES)


def _in_package(source: str) -> Path:
    package, _, name = source.removeprefix(PACKAGE).partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the Python package {package} is not installed")
    return Path(spec.submodule_search_locations[0]) / name
