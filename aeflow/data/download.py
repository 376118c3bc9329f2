"""Downloads that survive a broken connection, a killed process, a full disk and a bad server.

What a server sends has an end, a lowest rate and a way that cannot be listened to if it began so.
No message, and no file beside a download, holds more of an address than `public` lets through.
"""

import hashlib
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
import urllib3
from tqdm import tqdm

from aeflow.core.addresses import authorised, netrc_fault, public, redirected
from aeflow.core.errors import DataError
from aeflow.core.files import read_json, require_space, write_json
from aeflow.study.cards import SourceFile

logger = logging.getLogger(__name__)
logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # what it warns of, shows whole addresses
BLOCK_BYTES = 2**16
# An attempt that brought this much more than any before does not count as a failure.
PROGRESS_BYTES = 2**20
WEB_PAGE = "this is a web page, not the file: a login, consent or error page?"
# Level of what is told while a file is fetched, but is no warning of what was fetched.
TOLD = logging.WARNING - 1
REFUSING_STATUS = {401, 403}
PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, in seconds, and how much is taken from it."""

    connect: float = 20  # until it accepts the connection
    stall: float = 60  # until the next bytes come; also the most that it can ask us to wait
    delays: tuple[float, ...] = (1, 4, 10)  # before the second, third, ... attempt
    window: float = 60  # over which the rate is measured
    least_rate: float = 1000  # bytes per second
    redirects: int = 10
    most: int = 2**38  # bytes of a file whose size the card does not say


@dataclass(frozen=True)
class _Origin:
    """Which file a partial download is a part of, kept beside it."""

    url_sha256: str  # of what of the address is no secret
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
                raise DataError(f"{told}, {failures} times in a row{kept}") from None
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
    url_sha256 = hashlib.sha256(public(url).encode()).hexdigest()
    validator = origin.validator if origin and origin.url_sha256 == url_sha256 else None
    certain = validator is not None or file.sha256 is not None or file.md5 is not None
    offset = _size(target) if origin and certain else 0
    # Compressed transfer would make sizes and ranges those of something else.
    headers = {"Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={offset}-"} if offset else {}
    headers |= {"If-Range": validator} if offset and validator else {}
    with _errors_named(), _answer(url, headers, patience) as response:
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
        size = file.size_bytes or reply.total
        require_space(target.parent, (size or 0) - reply.start, file.name)
        if file.size_bytes is None and (size or 0) > patience.most:
            raise DataError(f"the file has {size} bytes, more than {patience.most}")
        # Where nobody says how much comes, some of the disk is left to others.
        cap = size or min(patience.most, shutil.disk_usage(target.parent).free // 2)
        if reply.start == 0:
            discard(target)
            begun = _Origin(url_sha256, reply.validator, reply.total)
            write_json(_origin_path(target), asdict(begun))
        done, blocks = reply.start, _blocks(response, patience)
        with target.open("ab") as content:
            for block in _watched(blocks, file.name, reply.start, reply.total):
                done += len(block)
                if done > cap:
                    break
                content.write(block)
        if done > cap:
            discard(target)
            said = "it should have" if size else "can be taken where the size is not known"
            raise DataError(f"the server sends more than the {cap} bytes that {said}")
    if reply.total not in (None, _size(target)):
        raise _BrokenError("the server closed the connection")
    return reply.start == 0


@contextmanager
def _answer(url: str, headers: dict[str, str], patience: Patience) -> Iterator[requests.Response]:
    """Give a server's answer, its redirects followed; a host gets what is its own and no more."""
    timeouts = (patience.connect, patience.stall)
    with _Session() as session:  # cookies may lead on from one address to the next
        for _ in range(patience.redirects + 1):
            address, header = authorised(url)
            # A function: a header alone would give way to what ~/.netrc says.
            auth = partial(_authorise, value=header) if header else None
            how: dict[str, Any] = {"stream": True, "timeout": timeouts, "allow_redirects": False}
            request = partial(session.get, address, headers=headers, auth=auth, **how)
            with _within(sum(timeouts), request) as response:
                location = requests.Session.get_redirect_target(session, response)
                if location is None:
                    yield response
                    return
            url = redirected(url, location)
    raise DataError(f"the server redirects without end (more than {patience.redirects} times)")


class _Session(requests.Session):
    """A session that leaves redirects to us, and the body of one unread: it may have no end."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def _authorise(request: requests.PreparedRequest, value: str) -> requests.PreparedRequest:
    request.headers["Authorization"] = value
    return request


def _within(seconds: float, function: Callable[[], Answer]) -> Answer:
    """Return what a function does, if it does within a time.

    A timeout of a socket begins anew with every byte: of headers that trickle there is no end.
    The thread is left behind then, and ends with the process.
    """
    answer: Future[Answer] = Future()

    def work() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    wait([answer], seconds)
    if not answer.done():
        raise _BrokenError(f"the server did not answer within {seconds:g} s")
    return answer.result()


def _blocks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """Yield what comes as it comes; a _BrokenError where that is next to nothing.

    Undecoded: some servers call a .tar.gz an encoding of a .tar.
    """
    since, brought = time.monotonic(), 0
    while block := response.raw.read1(BLOCK_BYTES, decode_content=False):
        yield block
        brought += len(block)
        elapsed = time.monotonic() - since
        if elapsed >= patience.window:
            if brought < patience.least_rate * elapsed:
                raise _BrokenError(f"the server sent {brought} bytes in {elapsed:.0f} s")
            since, brought = time.monotonic(), 0


@contextmanager
def _errors_named() -> Iterator[None]:
    """Name errors without the messages of requests: they show the URL, perhaps a password.

    Nor are they causes: a traceback in a log would show them.
    """
    try:
        yield
    except (requests.exceptions.SSLError, ValueError) as error:  # a URL that is none, too
        raise DataError(f"the connection failed ({type(error).__name__}){netrc_fault()}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _BrokenError(f"the connection failed ({type(error).__name__})") from None


def _read_reply(response: requests.Response, offset: int) -> _Reply:
    status, headers = response.status_code, response.headers
    if status in PASSING_STATUS:
        wait = headers.get("Retry-After", "")
        told = f"the server answered with status {status}"
        raise _BrokenError(told, float(wait) if wait.isdecimal() else 0)
    if status not in (200, 206) and not (status == 416 and offset):
        why = netrc_fault() if status in REFUSING_STATUS else ""
        raise DataError(f"the server answered with status {status}{why}")
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
        return _Reply(0, int(length) if length.isdecimal() else None, validator)
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
