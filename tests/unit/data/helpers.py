"""Small archives, images and cards, and a web server on this machine that answers with faults."""

import hashlib
import http.server
import io
import os
import re
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from aeflow.data.download import Patience
from aeflow.study.cards import DatasetCard, SourceFile

ROOT = Path(__file__).parents[3]
QUICK = Patience(connect=5, stall=20, delays=(0, 0, 0))
MEMBERS = {"toy/train/good/a.png": b"a" * 5000, "toy/test/good/b.png": b"b" * 5000}


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    """Write a zip with the given members, in their order."""
    with ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image as a file."""
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(height: int = 32, width: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8).squeeze()


def make_card(
    *files: SourceFile, counts: dict[str, Any] | None = None, **facts: Any
) -> DatasetCard:
    """Return the card `toy`; `layout` in `facts` adds to toy/<split>/<defect>/<stem>.png."""
    image = r"toy/(?P<split>train|test)/(?P<defect>[^/]+)/(?P<stem>[^/]+)\.png"
    return DatasetCard.model_validate(
        {
            **{"name": "toy", "title": "Toy", "licence": "none", "citation": "none"},
            "files": [file.model_dump() for file in files],
            "counts": counts
            or {"all": {"train_normal": 1, "test_normal": 1, "test_anomalous": 0}},
            **facts,
            "layout": {"image": image, "normal": "good"} | facts.get("layout", {}),
        }
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(destination: Path) -> list[str]:
    """Return what lies in the folder, but the note that tells a second process of the first."""
    names = {path.name for path in destination.parent.glob("*")}
    return sorted(names - {f".{destination.name}-files.json"})


def on_small_disk(folder: Path, megabytes: int, command: list[str]) -> list[str]:
    """Run a command whose last argument is below `folder`/disk, a file system of a few MiB.

    It is in a mount namespace that ends with the process. Returns the lines told, then the files
    that are left.
    """
    disk = folder / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {disk}"
    if "denied" in (refusal := run(["unshare", "-rm", "sh", "-c", f"{mount} || echo denied"])):
        pytest.skip(f"cannot mount here: {refusal}")
    script = f"{mount} && {' '.join(command)}; find {disk} -type f"
    return run(["unshare", "-rm", "sh", "-c", script]).splitlines()


def run(command: list[str], cwd: Path | None = None, **environment: str) -> str:
    """Return what a command says on stdout and stderr."""
    finished = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.stdout + finished.stderr


def start(command: list[str], **pipes: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


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
