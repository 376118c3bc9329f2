"""A web server on this machine that answers with faults, and cards whose files it has."""

import hashlib
import http.server
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aeflow.data.download import Patience
from aeflow.study.cards import DatasetCard, SourceFile

QUICK = Patience(connect=5, stall=20, delays=(0, 0, 0))


@dataclass
class Fault:
    """How one answer goes wrong.

    Attributes:
        status: Answered instead of the file; with 429, come back in an hour.
        redirect: Address that the server sends to.
        cut: Bytes after which the connection is closed.
        stall: Bytes after which nothing more comes.
        part: Bytes that it sends of a range, and says so.
        page: An HTML page instead of the file, with its proper Content-Type.
    """

    status: int | None = None
    redirect: str | None = None
    cut: int | None = None
    stall: int | None = None
    part: int | None = None
    page: bool = False


@dataclass
class Server:
    """What the server has, how it behaves, and what it was asked for.

    Attributes:
        files: By path.
        faults: By path, one per request; without one the answer is right.
        announced: Content-Length by path, where it is a lie.
        ranges: Whether it knows Range at all.
        conditions: Whether it knows If-Range.
        etags: How it names versions: strong, weak or not at all.
        date: Its Last-Modified.
        gate: Answers wait until it is set.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    announced: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    conditions: bool = True
    etags: str | None = "strong"
    date: str | None = None
    asked: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    expected: list[str | None] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
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
            self.send_response(302)
            self.send_header("Location", fault.redirect)
            self.end_headers()
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
        content = content[:end]
        stop = next((n for n in (fault.cut, fault.stall) if n is not None), len(content))
        self.answer(206 if offset else 200, headers, content[offset : offset + stop], length)
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


def card_of(*files: SourceFile, **facts: object) -> DatasetCard:
    return DatasetCard.model_validate(
        {
            "name": "toy",
            "title": "Toy",
            "licence": "none",
            "citation": "none",
            "files": [file.model_dump() for file in files],
            "layout": {"image": "(?P<split>.*)/(?P<defect>.*)", "normal": "good"},
            "counts": {"all": {"train_normal": 1, "test_normal": 1, "test_anomalous": 0}},
            **facts,
        }
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(destination: Path) -> list[str]:
    """Return what lies in the folder."""
    return sorted(path.name for path in destination.parent.glob("*"))
