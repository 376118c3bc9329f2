"""Where a file can be: a mirror, a server, a Python package or a folder of this machine."""

import logging
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from aeflow.core.errors import ConfigError, DataError, NoSpaceError
from aeflow.core.files import require_space
from aeflow.data.archives import BLOCK_BYTES, pack_folder
from aeflow.data.download import Patience, discard, download
from aeflow.study.cards import DatasetCard, SourceFile

logger = logging.getLogger(__name__)
PACKAGE = "package:"
Check = Callable[[SourceFile, Path], dict[str, Any]]


class NoSourceError(Exception):
    """No source had the right file; `reasons` has a sentence for each."""

    def __init__(self, file: SourceFile, reasons: list[str]) -> None:
        super().__init__(file, reasons)
        self.file, self.reasons = file, reasons


def first_source(
    file: SourceFile, target: Path, mirror: str | None, check: Check, patience: Patience
) -> dict[str, Any]:
    """Write the file of the first source that passes `check(file, path)`; return its facts.

    Tried in turn: `mirror` (a URL or folder) by the file's name, then the file's own `urls`. Local
    files are copied, never linked: a link would carry an old date, and an edit of the user's file
    would reach our copy. A folder is packed into a zip.

    Raises:
        NoSourceError: no source had it. An interrupted download stays at `target`.
        NoSpaceError: it would not fit.
        OSError: it cannot be written.
    """
    reasons = []
    for source in [*([in_mirror(mirror, file.name)] if mirror else []), *file.urls]:
        logger.info("Fetching %s from %s", file.name, public(source))
        get = _from_server if urlsplit(source).scheme in ("http", "https") else _from_here
        try:
            return get(source, file, target, check, patience)
        except NoSpaceError:
            raise
        except DataError as error:
            reasons.append(f"{public(source)}: {error}".rstrip("."))
            logger.warning("%s", reasons[-1])
    raise NoSourceError(file, reasons)


def replaced_files(card: DatasetCard, source: str, sha256: str | None) -> list[SourceFile]:
    """Return the files that an overlay names by `source` instead of the card's.

    A folder that holds the card's files by name stands for these; anything else is one archive,
    plain file or folder of unpacked content, called like the last part of its path.

    Raises:
        ConfigError: one checksum is given for several files.
    """
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
    path = urlsplit(source).path if _is_url(source) else str(folder.resolve())
    name = re.sub("[^A-Za-z0-9_.-]", "_", Path(path).name).lstrip("_.-") or "archive"
    replaced = SourceFile(name=name, urls=[source], sha256=sha256)
    if replaced.is_plain and len(card.files) == 1:
        # A plain file becomes a member, and the card knows that by name.
        return [replaced.model_copy(update={"name": card.files[0].name})]
    return [replaced]


def in_mirror(mirror: str, name: str) -> str:
    """Return where a mirror has a file."""
    return f"{mirror.rstrip('/')}/{quote(name)}" if _is_url(mirror) else str(Path(mirror) / name)


def public(source: str) -> str:
    """Return a source without the password and the query, either of which may be a secret."""
    if not _is_url(source):
        return source
    url = urlsplit(source)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}{'?...' if url.query else ''}"


def by_hand(error: NoSourceError) -> str:
    """Say what failed, and how to get the file without us."""
    file = error.file
    failed = "; ".join(error.reasons) or "no source is known"
    origin = f" from {public(file.urls[0])}" if file.urls else ""
    return (
        f"Cannot get {file.name} ({failed}). Get it by hand{origin}{_facts(file)}, put it into a "
        f"folder under the name {file.name} and run again with AEFLOW_MIRROR=<that folder>. The "
        "configuration can also name another `source` of a dataset."
    )


def recipe(card: DatasetCard, error: NoSourceError) -> str:
    """Return the numbered steps to a dataset that has to be asked for, one per line."""
    names = ", ".join(file.name + _facts(file) for file in card.files)
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


def _facts(file: SourceFile) -> str:
    facts = [f"{file.size_bytes} bytes"] if file.size_bytes else []
    facts += [f"sha256 {file.sha256}"] if file.sha256 else []
    facts += [f"md5 {file.md5}"] if file.md5 else []
    return f" ({', '.join(facts)})" if facts else ""


def _from_server(
    url: str, file: SourceFile, target: Path, check: Check, patience: Patience
) -> dict[str, Any]:
    whole = download(url, target, file, patience)
    try:
        return check(file, target)
    except DataError as error:
        discard(target)
        if whole:
            raise
        logger.warning("%s: %s It came in pieces: once more from nothing", file.name, error)
    download(url, target, file, patience)
    try:
        return check(file, target)
    except DataError:
        discard(target)
        raise


def _from_here(
    source: str, file: SourceFile, target: Path, check: Check, _: Patience
) -> dict[str, Any]:
    path = _local_path(source)
    copy = target.with_name(f"{target.name}.copy")  # beside a download that may go on later
    try:
        if path.is_dir():
            pack_folder(path, copy)
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
    if not _is_url(source):
        return Path(source).expanduser()
    url = urlsplit(source)
    if url.scheme != "file":
        raise DataError(f"the scheme {url.scheme} is not supported (http, https and file are)")
    return Path(url2pathname(url.path))


def _is_url(source: str) -> bool:
    return "://" in source
