"""Downloads that survive a broken connection, a killed process and a full disk."""

import hashlib
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from aeflow.core.errors import DataError
from aeflow.core.files import read_json, require_space, write_json
from aeflow.study.cards import SourceFile

logger = logging.getLogger(__name__)
# What a broken connection loses of the block it was in, and how often a stall is looked for.
BLOCK_BYTES = 2**16
# An attempt that brought this much more than any before does not count as a failure.
PROGRESS_BYTES = 2**20
WEB_PAGE = "this is a web page, not the file: a login, consent or error page?"
# Level of what is told while a file is fetched, but is no warning of what was fetched.
TOLD = logging.WARNING - 1
PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds."""

    connect: float = 20  # until it accepts the connection
    stall: float = 60  # until the next bytes come; also the most that it can ask us to wait
    delays: tuple[float, ...] = (1, 4, 10)  # before the second, third, ... attempt


@dataclass(frozen=True)
class _Origin:
    """Which file a partial download is a part of, kept beside it."""

    url_sha256: str  # the address itself may hold a password
    validator: str | None  # its strong ETag or its date, whatever If-Range takes
    total: int | None  # its size in bytes


@dataclass(frozen=True)
class _Reply:
    """What a server's answer says about itself."""

    start: int | None  # the byte it starts at; None if there is nothing after those asked for
    total: int | None  # the size of the whole file in bytes
    validator: str | None


class _BrokenError(Exception):
    """An attempt failed in a way that may pass, after `wait` seconds as the server says."""

    def __init__(self, message: str, wait: float = 0) -> None:
        super().__init__(message)
        self.wait = wait


def download(url: str, target: Path, file: SourceFile, patience: Patience) -> bool:
    """Download `url` to `target`, going on where an earlier attempt broke off.

    A partial `target` stays on an error, with `<target>.json` that says what it is a part of. It
    is continued if the server says that its file is still the same (If-Range), or if the card's
    checksum will tell; otherwise the download starts again.

    Returns:
        Whether all bytes came in one response. If not and the checksum is wrong, the file may
        have been glued together: worth a second try from nothing.

    Raises:
        DataError: the server has no such file, or the connection failed too often.
        NoSpaceError: the file would not fit.
    """
    failures, furthest = 0, _size(target)
    while True:
        try:
            return _attempt(url, target, file, patience)
        except _BrokenError as error:
            done = _size(target)
            failures = 1 if done >= furthest + PROGRESS_BYTES else failures + 1
            furthest = max(furthest, done)
            told = f"{error} after {done} bytes"
            if failures > len(patience.delays):
                kept = "; run again to go on from there" if done else ""
                raise DataError(f"{told}, {failures} times in a row{kept}") from error
            delay = max(patience.delays[failures - 1], min(error.wait, patience.stall))
            logger.log(TOLD, "%s: %s; next attempt in %g s", file.name, told, delay)
            time.sleep(delay)


def discard(target: Path) -> None:
    """Remove a download, complete or not, and what is known of it."""
    target.unlink(missing_ok=True)  # first: what is left without its origin is not continued
    _origin_path(target).unlink(missing_ok=True)


def is_download(target: Path) -> bool:
    """Tell whether `target` is a download that can go on, perhaps a complete one."""
    return _read_origin(target) is not None


def _attempt(url: str, target: Path, file: SourceFile, patience: Patience) -> bool:
    """Request what is missing and append it; a _BrokenError if another attempt may help."""
    origin = _read_origin(target)
    url_sha256 = hashlib.sha256(url.encode()).hexdigest()
    validator = origin.validator if origin and origin.url_sha256 == url_sha256 else None
    certain = validator is not None or file.sha256 is not None or file.md5 is not None
    offset = _size(target) if origin and certain else 0
    # Compressed transfer would make sizes and ranges those of something else.
    headers = {"Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={offset}-"} if offset else {}
    headers |= {"If-Range": validator} if offset and validator else {}
    timeouts = (patience.connect, patience.stall)
    with (
        _errors_named(),
        requests.get(url, headers=headers, stream=True, timeout=timeouts) as response,
    ):
        reply = _read_reply(response, offset)
        if file.size_bytes is not None and reply.total not in (None, file.size_bytes):
            raise DataError(f"the file has {reply.total} bytes instead of {file.size_bytes}")
        if origin and reply.start != 0:
            other = validator is not None and reply.validator not in (None, validator)
            if other or origin.total not in (None, reply.total):
                discard(target)
                raise _BrokenError("the server's file has changed")
        if reply.start is None:
            if reply.total == offset:
                return False  # an earlier attempt got everything
            discard(target)
            raise _BrokenError("the server's file is shorter than the part that is there")
        require_space(
            target.parent, (reply.total or file.size_bytes or 0) - reply.start, file.name
        )
        if reply.start == 0:
            discard(target)
            begun = _Origin(url_sha256, reply.validator, reply.total)
            write_json(_origin_path(target), asdict(begun))
        # Undecoded: some servers call a .tar.gz an encoding of a .tar.
        blocks = response.raw.stream(BLOCK_BYTES, decode_content=False)
        with target.open("ab") as content:
            for block in _watched(blocks, file.name, reply.start, reply.total):
                content.write(block)
    if reply.total not in (None, _size(target)):
        raise _BrokenError("the server closed the connection")
    return reply.start == 0


@contextmanager
def _errors_named() -> Iterator[None]:
    """Name errors without the messages of requests: they show the URL, perhaps a password."""
    try:
        yield
    except (requests.exceptions.SSLError, ValueError) as error:  # a URL that is none, too
        raise DataError(f"the connection failed ({type(error).__name__})") from error
    except requests.exceptions.TooManyRedirects as error:
        raise DataError("the server redirects without end") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _BrokenError(f"the connection failed ({type(error).__name__})") from error


def _read_reply(response: requests.Response, offset: int) -> _Reply:
    status, headers = response.status_code, response.headers
    if status in PASSING_STATUS:
        wait = headers.get("Retry-After", "")
        told = f"the server answered with status {status}"
        raise _BrokenError(told, float(wait) if wait.isdigit() else 0)
    if status not in (200, 206) and not (status == 416 and offset):
        raise DataError(f"the server answered with status {status}")
    # A strong ETag names bytes; a weak one cannot be used to continue.
    etag = headers.get("ETag")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    content_range = headers.get("Content-Range", "")
    if status == 416:
        total = re.fullmatch(r"bytes \*/(\d+)", content_range)
        return _Reply(None, int(total[1]) if total else None, validator)
    # Before anything is thrown away: a login page must not cost what was downloaded.
    if headers.get("Content-Type", "").lower().startswith("text/html"):
        raise DataError(WEB_PAGE)
    if status == 200:
        length = headers.get("Content-Length", "")
        return _Reply(0, int(length) if length.isdigit() else None, validator)
    part = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
    if part is None or int(part[1]) != offset:
        raise DataError("the server sent another part of the file than was asked for")
    return _Reply(offset, int(part[2]), validator)


def _watched(blocks: Iterator[bytes], name: str, start: int, total: int | None) -> Iterator[bytes]:
    """Pass blocks on, with a bar on a terminal and a line in the log for every tenth."""
    if start:
        logger.info("%s: going on after %d bytes", name, start)
    done, step = start, max((total or 10 * 2**30) // 10, 1)
    with tqdm(
        total=total, initial=start, desc=name, unit="B", unit_scale=True, disable=None
    ) as bar:
        for block in blocks:
            yield block
            before, done = done, done + len(block)
            bar.update(len(block))
            if done // step > before // step:
                share = f" ({100 * done // total} %)" if total else ""
                logger.info("%s: %.1f MB%s", name, done / 1e6, share)


def _read_origin(target: Path) -> _Origin | None:
    """Return what a partial download is a part of; None if that is not known."""
    path = _origin_path(target)
    try:
        return _Origin(**read_json(path)) if path.exists() and target.exists() else None
    except (DataError, TypeError):
        return None


def _origin_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
