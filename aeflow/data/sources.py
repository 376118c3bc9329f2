"""Where a file can be: a mirror, a server, a Python package or a folder of this machine."""

import hashlib
import logging
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname
from zipfile import ZipFile

from aeflow.core.addresses import PACKAGE, check_address, is_url, mirrored, public
from aeflow.core.errors import ConfigError, DataError, NoSpaceError
from aeflow.core.files import require_space, sha256_file
from aeflow.core.schema import NAME, NO_NAME
from aeflow.data.archives import BLOCK_BYTES, archive_members, store
from aeflow.data.download import TOLD, WEB_PAGE, Patience, discard, download
from aeflow.study.cards import DatasetCard, SourceFile

logger = logging.getLogger(__name__)
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
            if urlsplit(source).scheme in ("http", "https"):
                return _from_server(source, file, target, check, patience)
            return _from_here(source, file, target, check)
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


def _from_here(source: str, file: SourceFile, target: Path, check: Check) -> Facts:
    path = _local_path(source)
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


def _local_path(source: str) -> Path:
    if source.startswith(PACKAGE):
        package, _, name = source.removeprefix(PACKAGE).partition("/")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise DataError(f"the Python package {package} is not installed")
        return Path(spec.submodule_search_locations[0]) / name
    if not is_url(source):
        return Path(source).expanduser()
    return Path(url2pathname(urlsplit(source).path))
