"""The archive of a dataset: found in a mirror, on a server or on this machine, then verified."""

import hashlib
import logging
import re
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname
from zipfile import ZipFile

import pooch
import requests

from aeflow.cards import DatasetCard, SourceFile
from aeflow.data.archives import (
    BLOCK_BYTES,
    add_file,
    add_tar,
    add_zip,
    archive_kind,
    open_zip,
    pack_folder,
)
from aeflow.data.convert import convert_archive
from aeflow.errors import DataError
from aeflow.files import atomic_path, sha256_file

logger = logging.getLogger(__name__)
PACKAGE = "package:"
TIMEOUT_SECONDS = (20, 60)  # to connect, and between two blocks


def fetch_dataset(
    card: DatasetCard,
    destination: Path,
    mirror: str | None,
    source: str | None = None,
    sha256: str | None = None,
) -> dict[str, Any]:
    """Fetch or generate a dataset and place it at `destination` as one zip.

    A single zip is placed as it is. Anything else becomes a stored zip: of several archives each
    one's members go below a folder named by its stem, a plain file (.npz, .csv) is a member at
    the top. Files that are no images are then converted. See `fetch_file` for how each file is
    found.

    Args:
        card: The dataset's card.
        destination: The zip to write.
        mirror: AEFLOW_MIRROR, if set.
        source: Replaces the card's files: a URL, an archive, a folder of the unpacked content, or
            a folder that holds the card's files by name. The card's checksums do not apply.
        sha256: Checksum of `source`.

    Returns:
        The manifest: `files`, with `name`, `sha256` and `size_bytes` of each file fetched, and
        `placed_sha256`, the checksum of the zip.

    Raises:
        DataError: as `fetch_file`; an archive that is unreadable or unsafe is not the right one.
    """
    if card.generator is not None and source is None:
        from aeflow.data.demo_textures import write_demo_textures

        with atomic_path(destination) as part:
            write_demo_textures(part)
            return {"files": [], "placed_sha256": sha256_file(part)}
    files = card.files if source is None else replaced_files(card, source, sha256)
    originals = [destination.with_name(f".{destination.name}.{file.name}") for file in files]
    unconverted = destination.with_name(f".{destination.name}.files")
    try:
        with atomic_path(destination) as part:
            described = [
                _first_source(file, original, mirror, _check_archive)
                for file, original in zip(files, originals, strict=True)
            ]
            if card.conversion is None:
                _place(files, originals, part)
            else:
                _place(files, originals, unconverted)
                number = convert_archive(card.conversion, unconverted, part)
                logger.info("%s: %d images written", card.name, number)
            return {"files": described, "placed_sha256": sha256_file(part)}
    finally:
        for original in (*originals, unconverted):
            original.unlink(missing_ok=True)


def fetch_file(file: SourceFile, destination: Path, mirror: str | None) -> dict[str, Any]:
    """Place a file at `destination` after checking its size and checksum.

    Tried in turn: `mirror` (a URL or folder) by the file's name, then the file's own source.
    Local files are copied, never linked: a link would carry an old date, and an edit of the
    user's file would reach our copy. A folder is packed into a zip.

    Args:
        file: Name, source, checksum and size.
        destination: Where it goes.
        mirror: AEFLOW_MIRROR, if set.

    Returns:
        The manifest: `name`, `sha256` and `size_bytes` of what was fetched. Nothing about where
        from, so that another mirror of the same bytes changes nothing.

    Raises:
        DataError: no source had the right file; lists each with its reason, and says how to get
            it by hand. Or the destination cannot be written.
    """
    with atomic_path(destination) as part:
        return _first_source(file, part, mirror, _check_file)


def replaced_files(card: DatasetCard, source: str, sha256: str | None) -> list[SourceFile]:
    """Return the files that an overlay names by `source`: see `fetch_dataset`."""
    folder = Path(source).expanduser()
    if card.files and all((folder / file.name).is_file() for file in card.files):
        return [
            SourceFile(name=file.name, urls=[str(folder / file.name)], sha256=sha256)
            for file in card.files
        ]
    path = urlsplit(source).path if _is_url(source) else str(folder.resolve())
    name = re.sub("[^A-Za-z0-9_.-]", "_", Path(path).name).lstrip("_.-") or "archive"
    return [SourceFile(name=name, urls=[source], sha256=sha256)]


def _place(files: list[SourceFile], originals: list[Path], part: Path) -> None:
    """Make one zip of the files: see `fetch_dataset`."""
    kinds = [
        "plain" if file.is_plain else archive_kind(original)
        for file, original in zip(files, originals, strict=True)
    ]
    if kinds == ["zip"]:
        originals[0].replace(part)
        return
    with ZipFile(part, "w") as placed:
        for file, original, kind in zip(files, originals, kinds, strict=True):
            folder = file.stem if len(files) > 1 else ""
            if kind == "plain":
                add_file(placed, original, file.name)
            elif kind == "zip":
                add_zip(placed, original, folder)
            else:
                add_tar(placed, original, folder)


def _first_source(
    file: SourceFile,
    target: Path,
    mirror: str | None,
    check: Callable[[SourceFile, Path], dict[str, Any]],
) -> dict[str, Any]:
    """Write the file of the first source that passes `check(file, target)`."""
    sources = [_in_mirror(mirror, file.name)] if mirror else []
    sources += file.urls
    reasons = []
    for source in sources:
        logger.info("Fetching %s from %s", file.name, _public(source))
        try:
            _obtain(source, target)
            return check(file, target)
        except DataError as error:
            reasons.append(f"{_public(source)}: {error}".rstrip("."))
            logger.warning("%s", reasons[-1])
    raise DataError(_manual_recipe(file, reasons))


def _obtain(source: str, target: Path) -> None:
    """Download or copy a source to `target`; a folder becomes a zip."""
    if source.startswith(PACKAGE):
        source = _in_package(source)
    url = urlsplit(source)
    if url.scheme in ("http", "https"):
        _download(source, target)
        return
    if _is_url(source) and url.scheme != "file":
        raise DataError(f"the scheme {url.scheme} is not supported (http, https and file are)")
    path = Path(url2pathname(url.path)) if _is_url(source) else Path(source).expanduser()
    if path.is_dir():
        pack_folder(path, target)
    elif path.is_file():
        try:
            content = path.open("rb")
        except OSError as error:
            raise DataError(f"the file cannot be read: {error.strerror}") from error
        with content, target.open("wb") as copy:
            shutil.copyfileobj(content, copy, BLOCK_BYTES)
    else:
        raise DataError("there is no such file or folder")


def _download(url: str, target: Path) -> None:
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=BLOCK_BYTES, timeout=TIMEOUT_SECONDS
    )
    # The messages of requests show the whole URL, which may hold a password or token.
    try:
        download(url, str(target), None)
    except requests.HTTPError as error:
        status = "an error" if error.response is None else f"status {error.response.status_code}"
        raise DataError(f"the server answered with {status}") from error
    except requests.RequestException as error:
        done = target.stat().st_size if target.exists() else 0
        kind = type(error).__name__
        raise DataError(f"the connection failed after {done} bytes ({kind})") from error


def _check_file(file: SourceFile, original: Path) -> dict[str, Any]:
    """Check what was fetched and return its facts."""
    size = original.stat().st_size
    with original.open("rb") as content:
        head = content.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DataError("this is a web page, not the file: a login, consent or error page?")
    if file.size_bytes not in (None, size):
        cut = ": it was cut off" if size < (file.size_bytes or 0) else ""
        raise DataError(f"the file has {size} bytes instead of {file.size_bytes}{cut}")
    sha256 = sha256_file(original)
    if not sha256.startswith(file.sha256 or ""):
        raise DataError(f"wrong checksum: expected sha256 {file.sha256}, got {sha256}")
    if file.md5 is not None and (md5 := _md5_file(original)) != file.md5:
        raise DataError(f"wrong checksum: expected md5 {file.md5}, got {md5}")
    logger.info("%s: %d bytes, sha256 %s", file.name, size, sha256)
    return {"name": file.name, "sha256": sha256, "size_bytes": size}


def _check_archive(file: SourceFile, original: Path) -> dict[str, Any]:
    """Check a file of a dataset and return its facts; a tar is read when it is repacked."""
    facts = _check_file(file, original)
    if not file.is_plain and archive_kind(original) == "zip":
        open_zip(original).close()
    return facts


def _md5_file(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()


def _manual_recipe(file: SourceFile, reasons: list[str]) -> str:
    failed = "; ".join(reasons) or "no source is known"
    facts = [f"{file.size_bytes} bytes"] if file.size_bytes else []
    facts += [f"sha256 {file.sha256}"] if file.sha256 else []
    facts += [f"md5 {file.md5}"] if file.md5 else []
    origin = f" from {_public(file.urls[0])}" if file.urls else ""
    return (
        f"Cannot get {file.name} ({failed}). Get it by hand{origin}"
        f"{' (' + ', '.join(facts) + ')' if facts else ''}, put it into a folder under the name "
        f"{file.name} and run again with AEFLOW_MIRROR=<that folder>. The configuration can also "
        "name another `source` of a dataset."
    )


def _is_url(source: str) -> bool:
    return "://" in source


def _in_mirror(mirror: str, name: str) -> str:
    return f"{mirror.rstrip('/')}/{quote(name)}" if _is_url(mirror) else str(Path(mirror) / name)


def _in_package(source: str) -> str:
    """Return the path of `package:<folder>/<file>`, a file of an installed Python package."""
    package, _, name = source.removeprefix(PACKAGE).partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the Python package {package} is not installed")
    return str(Path(spec.submodule_search_locations[0]) / name)


def _public(source: str) -> str:
    """Return a source without the password and the query, either of which may be a secret."""
    if not _is_url(source):
        return source
    url = urlsplit(source)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}{'?...' if url.query else ''}"
