"""A web server on this machine that answers with faults."""

import hashlib
import http.server
import re
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aeflow.data.download import Patience

QUICK = Patience(connect=5, stall=20, delays=(0, 0, 0))
# For servers that trickle: what the disk and the other processes take, is far less.
HASTY = Patience(connect=1, stall=1, delays=(0,), window=0.5, least_rate=1e6)


@dataclass
class Fault:
    """How one answer goes wrong."""

    status: int | None = None  # answered instead of the file; with 429, come back in an hour
    redirect: str | None = None  # address that the server sends to
    cut: int | None = None  # bytes after which the connection is closed
    stall: int | None = None  # bytes after which nothing more comes
    part: int | None = None  # bytes that it sends of a range, and says so
    trickle: int | None = None  # bytes after which it sends one every 50 ms
    headers: int | None = (
        None  # header lines, one every 50 ms, before the others; 0: an endless one
    )
    endless: bool = False  # sends for ever and does not say how much
    raw: bytes | None = None  # sent as the whole answer
    more: dict[str, str] = field(default_factory=dict)  # headers instead of, or beside, its own
    unsized: bool = False  # does not say how much it sends, and closes the connection then
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
    wanted: str | None = None  # the header Authorization, or `?` and the query, that it asks for
    got: list[tuple[str | None, str]] = field(default_factory=list)  # Authorization, query
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

    def handle(self) -> None:
        with suppress(ConnectionError):  # who asked, has had enough
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError):
            super().finish()

    def do_GET(self) -> None:
        state, (path, _, query) = self.state, self.path.partition("?")
        authorization = self.headers.get("Authorization")
        state.got.append((authorization, query))
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        offset = int(wanted[1]) if wanted else 0
        state.asked.append(path)
        state.offsets.append(offset)
        state.expected.append(self.headers.get("If-Range"))
        state.gate.wait()
        fault = state.faults[path].pop(0) if state.faults[path] else Fault()
        self.more = fault.more
        if fault.raw is not None:
            self.wfile.write(fault.raw)
        elif fault.status == 429:
            self.answer(429, {"Retry-After": "3600"}, b"")
        elif fault.status is not None and fault.more:
            self.answer(fault.status, {}, b"")
        elif fault.status is not None:
            self.send_error(fault.status)
        elif state.wanted is not None and state.wanted not in (authorization, f"?{query}"):
            self.send_error(401)
        elif fault.redirect is not None and fault.endless:
            self.send_without_end(302, {"Location": fault.redirect})
        elif fault.redirect is not None:
            self.answer(302, {"Location": fault.redirect}, b"")
        elif fault.page:
            self.answer(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Log in</html>")
        elif path not in state.files:
            self.send_error(404)
        elif fault.endless:
            self.send_without_end()
        elif fault.headers is not None:
            self.send_headers(fault.headers)
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
        wrong = (fault.cut, fault.stall, fault.trickle)
        stop = next((n for n in wrong if n is not None), end)
        if fault.unsized:
            length = -1
        self.answer(206 if offset else 200, headers, content[offset:end][:stop], length)
        if fault.trickle is not None:
            for byte in content[offset:end][stop:]:
                self.wfile.write(bytes([byte]))
                if state.over.wait(0.05):
                    return
        if fault.stall is not None:
            self.wfile.flush()
            state.over.wait()

    def send_without_end(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        while not self.state.over.is_set():
            self.wfile.write(b"x" * 2**16)

    def send_headers(self, count: int) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        line = b"x" if count == 0 else b"X-More: yes\r\n"
        for _ in range(count or 10**6):
            self.wfile.write(line)
            if self.state.over.wait(0.05):
                return

    def answer(
        self, status: int, headers: dict[str, str], content: bytes, length: int | None = None
    ) -> None:
        self.send_response(status)
        if length != -1:
            headers |= {"Content-Length": str(len(content) if length is None else length)}
        for name, value in (headers | self.more).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Server]:
    """Run a server; with the certificate of 127.0.0.1, and its key in one file, over https."""
    state = Server()
    state.gate.set()
    handler = type("Bound", (Handler,), {"state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            running.socket = context.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        state.url = f"http{'s' if certificate else ''}://127.0.0.1:{running.server_port}"
        try:
            yield state
        finally:
            state.gate.set()
            state.over.set()
            running.shutdown()
            thread.join()
