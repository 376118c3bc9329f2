"""The archive of a dataset: found in a mirror, on a server or on this machine, then verified."""

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

import pooch
import requests

from aeflow.cards import DatasetCard, SourceFile
from aeflow.data.archives import BLOCK_BYTES, open_zip, pack_folder, repack_tar
from aeflow.errors import DataError
from aeflow.files import atomic_path, sha256_file

logger = logging.getLogger(__name__)
PACKAGE = "package:"
TIMEOUT_SECONDS = (20, 60)  # to connect, and between two blocks


def fetch_dataset(card: DatasetCard, destination: Path, mirror: str | None) -> dict[str, Any]:
    """Fetch or generate the archive of a dataset. See `fetch_archive`."""
    if card.generator is None:
        return fetch_archive(card.archive, destination, mirror)
    from aeflow.data.demo_textures import write_demo_textures

    with atomic_path(destination) as part:
        write_demo_textures(part)
        return _place_archive(card.archive, part, part)


def fetch_archive(archive: SourceFile, destination: Path, mirror: str | None) -> dict[str, Any]:
    """Place a dataset's archive at `destination`, always as a zip. See `fetch_file`.

    Returns:
        The manifest of `fetch_file`, with `kind` (zip or tar) and `placed_sha256`, the checksum
        of the zip: another one than the original's where that was a tar.

    Raises:
        DataError: as `fetch_file`; an archive that is unreadable or unsafe is not the right one.
    """
    return _first_source(archive, destination, mirror, _place_archive)


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
    return _first_source(file, destination, mirror, _place_file)


def replaced_archive(source: str, sha256: str | None) -> SourceFile:
    """Return the archive that an overlay names by `source`, called like its last path part."""
    path = urlsplit(source).path if _is_url(source) else str(Path(source).expanduser().resolve())
    name = re.sub("[^A-Za-z0-9_.-]", "_", Path(path).name).lstrip("_.-") or "archive"
    return SourceFile(name=name, url=source, sha256=sha256)


class _SourceError(Exception):
    """A source did not have the file; the next one is tried."""


def _first_source(
    file: SourceFile,
    destination: Path,
    mirror: str | None,
    place: Callable[[SourceFile, Path, Path], dict[str, Any]],
) -> dict[str, Any]:
    """Let `place(file, original, part)` finish the first source that has the right file."""
    sources = [_in_mirror(mirror, file.name)] if mirror else []
    sources += [file.url] if file.url else []
    reasons = []
    for source in sources:
        logger.info("Fetching %s from %s", file.name, _public(source))
        original = destination.with_name(f".{destination.name}.original")
        try:
            with atomic_path(destination) as part:
                try:
                    _obtain(source, original)
                    return place(file, original, part)
                except DataError as error:  # of this source; those of writing come from outside
                    raise _SourceError(f"{_public(source)}: {error}".rstrip(".")) from error
                finally:
                    original.unlink(missing_ok=True)
        except _SourceError as error:
            logger.warning("%s", error)
            reasons.append(str(error))
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


def _place_file(file: SourceFile, original: Path, part: Path) -> dict[str, Any]:
    """Check what was fetched, move it to `part` and return its manifest."""
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
    logger.info("%s: %d bytes, sha256 %s", file.name, size, sha256)
    original.replace(part)
    return {"name": file.name, "sha256": sha256, "size_bytes": size}


def _place_archive(archive: SourceFile, original: Path, part: Path) -> dict[str, Any]:
    """Check what was fetched, place it as a zip at `part` and return its manifest."""
    manifest = _place_file(archive, original, original)
    with original.open("rb") as content:
        head = content.read(512)
    if head.startswith(b"PK"):
        kind = "zip"
        with open_zip(original):
            original.replace(part)
    elif head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar":
        kind = "tar"
        repack_tar(original, part)
    else:
        raise DataError("the file is neither a zip nor a tar archive")
    return {**manifest, "kind": kind, "placed_sha256": sha256_file(part)}


def _manual_recipe(file: SourceFile, reasons: list[str]) -> str:
    failed = "; ".join(reasons) or "no source is known"
    facts = [f"{file.size_bytes} bytes"] if file.size_bytes else []
    facts += [f"sha256 {file.sha256}"] if file.sha256 else []
    origin = f" from {_public(file.url)}" if file.url else ""
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
