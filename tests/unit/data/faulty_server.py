"""A web server on this machine that answers with faults."""

import hashlib
import http.server
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aeflow.data.download import Patience

QUICK = Patience(connect=5, stall=20, delays=(0, 0, 0))


@dataclass
class Fault:
    """How one answer goes wrong."""

    status: int | None = None  # answered instead of the file; with 429, come back in an hour
    redirect: str | None = None  # address that the server sends to
    cut: int | None = None  # bytes after which the connection is closed
    stall: int | None = None  # bytes after which nothing more comes
    part: int | None = None  # bytes that it sends of a range, and says so
    page: bool = False  # an HTML page instead of the file, with its proper Content-Type


@dataclass
class Server:
    """What the server has, how it behaves, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # by path
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    announced: dict[str, int] = field(default_factory=dict)  # Content-Length where it is a lie
    ranges: bool = True  # whether it knows Range at all
    conditions: bool = True  # whether it knows If-Range
    etags: str | None = "strong"  # how it names versions: strong, weak or not at all
    date: str | None = None  # its Last-Modified
    asked: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    expected: list[str | None] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)  # answers wait until it is set
    over: threading.Event = field(default_factory=threading.Event)

    def etag(self, path: str) -> str | None:
        digest = hashlib.sha256(self.files[path]).hexdigest()[:12]
        return {"strong": f'"{digest}"', "weak": f'W/"{digest}"', None: None}[self.etags]


class Handler(http.server.BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        state, path = self.state, self.path.partition("?")[0]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        offset = int(wanted[1]) if wanted else 0
        state.asked.append(path)
        state.offsets.append(offset)
        state.expected.append(self.headers.get("If-Range"))
        state.gate.wait()
        fault = state.faults[path].pop(0) if state.faults[path] else Fault()
        if fault.status == 429:
            self.answer(429, {"Retry-After": "3600"}, b"")
        elif fault.status is not None:
            self.send_error(fault.status)
        elif fault.redirect is not None:
            self.answer(302, {"Location": fault.redirect}, b"")
        elif fault.page:
            self.answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Log in</html>")
        elif path not in state.files:
            self.send_error(404)
        else:
            self.send_file(path, offset, fault)

    def send_file(self, path: str, offset: int, fault: Fault) -> None:
        state, content, etag = self.state, self.state.files[path], self.state.etag(path)
        condition = self.headers.get("If-Range")
        if not state.ranges or (state.conditions and condition not in (None, etag, state.date)):
            offset = 0
        headers = {"ETag": etag} if etag else {}
        headers |= {"Last-Modified": state.date} if state.date else {}
        if offset and offset >= len(content):
            self.answer(416, {**headers, "Content-Range": f"bytes */{len(content)}"}, b"")
            return
        end = len(content) if fault.part is None else offset + fault.part
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{end - 1}/{len(content)}"
        length = state.announced.get(path, end) - offset
        stop = next((n for n in (fault.cut, fault.stall) if n is not None), end)
        self.answer(206 if offset else 200, headers, content[offset:end][:stop], length)
        if fault.stall is not None:
            self.wfile.flush()
            state.over.wait()

    def answer(
        self, status: int, headers: dict[str, str], content: bytes, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    state = Server()
    state.gate.set()
    handler = type("Bound", (Handler,), {"state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_port}"
        try:
            yield state
        finally:
            state.gate.set()
            state.over.set()
            running.shutdown()
            thread.join()
