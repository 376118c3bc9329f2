"""Places for the payload that the tests make and break: folders, moto's S3 server, bad lines."""

from __future__ import annotations

import hashlib
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import boto3

if TYPE_CHECKING:
    from tests.workflow.conftest import Shared

DOCUMENT = Path(__file__).parents[2] / "docs/share.md"
DOCUMENTED_URL = "/mnt/shared/aeflow"
# Not the document's `store`, which the author's configuration has: nothing comes from there.
NAME = "other"
PATIENCE = 120.0
KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # No way round by a proxy, and no waiting where nothing listens.
    "AWS_MAX_ATTEMPTS": "1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


class Store(Protocol):
    """A remote, as `dvc remote` knows it and as the owner of its disk sees it."""

    url: str
    endpoint: str | None

    def names(self) -> set[str]: ...
    def read(self, name: str) -> bytes: ...
    def write(self, name: str, content: bytes) -> None: ...
    def delete(self, name: str) -> None: ...


class Folder:
    """A remote in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)
        self.endpoint: str | None = None

    def names(self) -> set[str]:
        files = (path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix() for path in files}

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self.delete(name)  # DVC makes its objects read-only
        (self.path / name).write_bytes(content)

    def delete(self, name: str) -> None:
        (self.path / name).unlink()


class Bucket:
    """A remote in a bucket of an S3 server; it has to be created."""

    def __init__(self, server: str, name: str) -> None:
        self.client = boto3.client("s3", endpoint_url=server)
        self.name = name
        self.url = f"s3://{name}/aeflow"
        self.endpoint: str | None = server

    def create(self) -> Bucket:
        self.client.create_bucket(Bucket=self.name)
        return self

    def names(self) -> set[str]:
        listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {entry["Key"].removeprefix("aeflow/") for entry in listed}

    def read(self, name: str) -> bytes:
        answer = self.client.get_object(Bucket=self.name, Key=f"aeflow/{name}")
        return bytes(answer["Body"].read())

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"aeflow/{name}", Body=content)

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"aeflow/{name}")


@contextmanager
def moto_server(log: Path) -> Iterator[str]:
    """Run moto's server on a port that is free; yields its address."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("w") as told, subprocess.Popen(command, stdout=told, stderr=told) as server:
        try:
            until = time.monotonic() + PATIENCE
            while not (found := re.search(r"Running on (http://[\d.:]+)", log.read_text())):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            yield found[1]
        finally:
            server.kill()


class Line:
    """A way to a server that breaks after a number of bytes, either way counted.

    Attributes:
        address: what to use instead of the server's address.
        broken: set when it has let that many bytes pass.
        mended: nothing passes from then on until this is set; after a cut nothing ever does.
    """

    def __init__(self, server: str, limit: int, cut: bool = False) -> None:
        self._server = ("127.0.0.1", int(server.rpartition(":")[2]))
        self._left = limit
        self._cut = cut
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.broken = threading.Event()
        self.mended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                with self._lock:
                    self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(16_384):
                with self._lock:
                    self._left -= len(data)
                    over = self._left < 0
                if over:
                    self.broken.set()
                    if self._cut:
                        self.close()
                        return
                    self.mended.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End all connections; none can be made again."""
        with self._lock:
            for ended in [self._listening, *self._sockets]:
                with suppress(OSError):  # `close` alone does not wake up who waits in it
                    ended.shutdown(socket.SHUT_RDWR)
                ended.close()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.mended.set()


def section(title: str) -> str:
    """Return a section of docs/share.md."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def advice(said: str) -> str:
    """Return what docs/share.md advises for a message: the first row whose words are in it.

    Words stand between backticks; `...` is any text, and words in one cell are alternatives.
    """
    for line in section("When something goes wrong").splitlines():
        if line.startswith("| `"):
            cell, _, todo = line.strip("| ").partition(" | ")
            for words in re.findall("`(.+?)`", cell):
                parts = (re.escape(part.strip()) for part in words.split("..."))
                if re.search(".*?".join(parts), said, re.DOTALL):
                    return todo
    raise AssertionError(f"no row for: {said}")


def attach(study: Shared, store: Store, through: Line | None = None) -> None:
    """Do what docs/share.md says under "Once: a remote", with another URL and for this clone."""
    commands = [
        shlex.split(line.replace(DOCUMENTED_URL, store.url), comments=True)
        for line in section("Once: a remote").splitlines()
        if line.startswith("dvc remote ")
    ]
    assert commands
    for dvc, remote, action, *rest in commands:
        force = ["--force"] if action == "add" else []
        named = [NAME if word == "store" else word for word in rest]
        study.call(dvc, remote, action, "--local", *force, *named)
    if store.endpoint:
        change(study, "endpointurl", through.address if through else store.endpoint)


def change(study: Shared, option: str, value: str) -> None:
    """Set an option of the remote."""
    study.call("dvc", "remote", "modify", "--local", NAME, option, value)


def start(study: Shared, *command: str) -> subprocess.Popen[str]:
    """Start a command in a study."""
    return subprocess.Popen(
        command,
        cwd=study.folder,
        env=study.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def payload(study: Shared) -> dict[str, str]:
    """Return the SHA-256 of every file of the payload that is here under its final name."""
    folders = [study.folder / "data" / name for name in ("raw", "weights", "prepared", "features")]
    return {
        path.relative_to(study.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in [*folders, study.results() / "models"]
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".dvc" and not path.name.startswith(".")
    }


def damaged_objects(folder: Path) -> list[str]:
    """Return the objects of a cache that are not what their names say."""
    return [
        path.name
        for path in folder.glob("files/md5/*/*")
        if not path.name.startswith(".")
        and hashlib.md5(path.read_bytes()).hexdigest()
        != f"{path.parent.name}{path.name}".removesuffix(".dir")
    ]
