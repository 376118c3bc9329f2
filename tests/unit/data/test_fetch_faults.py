"""Full disks and locked folders, in processes of their own; and the script."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aeflow.study.cards import DatasetCard
from tests.unit.data.fetching import Fault, Server, left, sha256

WriteZip = Callable[[Path, dict[str, bytes]], Path]
ROOT = Path(__file__).parents[3]


CHILD = """
import logging, os, resource, sys
from pathlib import Path
from aeflow.study.cards import SourceFile
from aeflow.data.download import Patience
from aeflow.data.fetch import fetch_dataset
from aeflow.core.errors import DataError
from tests.unit.data.fetching import card_of
source, destination, limit = sys.argv[1:4]
if limit == "small files only":
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
if limit == "no root" and os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
logging.basicConfig(level="INFO")
card = card_of(SourceFile(name="toy.zip", urls=[source], sha256="0" * 64))
manifest = Path(destination).with_suffix(".json")
digest = sys.argv[4] if len(sys.argv) > 4 else None
try:
    fetch_dataset(card, Path(destination), manifest, None, source, digest, Patience(5, 20, (0,)))
except DataError as error:
    print(type(error).__name__, error)
"""


def run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    finished = subprocess.run(
        command, cwd=cwd, env={**environment, **(env or {})}, capture_output=True, text=True
    )
    return str(finished.stdout + finished.stderr)


def on_small_disk(folder: Path, source: Path) -> str:
    """Fetch to a file system of 1 MiB, in a mount namespace that ends with the process."""
    disk = folder / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m tmpfs {disk}"
    if "denied" in (refusal := run(["unshare", "-rm", "sh", "-c", f"{mount} || echo denied"])):
        pytest.skip(f"cannot mount here: {refusal}")
    (folder / "child.py").write_text(CHILD)
    fetch = f"{sys.executable} {folder}/child.py {source} {disk}/raw/images.zip no 2> /dev/null"
    return run(["unshare", "-rm", "sh", "-c", f"{mount} && {fetch}; ls -A {disk}/raw"])


def test_no_space_for_the_file(tmp_path: Path, write_zip: WriteZip) -> None:
    source = write_zip(tmp_path / "toy.zip", {"a.png": os.urandom(2**21)})
    told = on_small_disk(tmp_path, source).splitlines()
    assert told[0].startswith("NoSpaceError toy.zip needs 2.1 MB in ")
    assert "but only 1.0 MB are free there" in told[0]
    assert told[1:] == []


@pytest.mark.parametrize(
    ("size", "mode", "message"),
    [
        (2**21, "w:gz", "DataError Cannot write "),  # nothing tells beforehand what it unpacks to
        (600_000, "w", "NoSpaceError The zip of toy.tar needs 0.6 MB in "),
    ],
)
def test_no_space_for_the_zip_of_a_tar(tmp_path: Path, size: int, mode: str, message: str) -> None:
    (tmp_path / "black.png").write_bytes(bytes(size))
    with tarfile.open(tmp_path / "toy.tar", mode) as tar:  # type: ignore[call-overload]
        tar.add(tmp_path / "black.png", "black.png")
    told = on_small_disk(tmp_path, tmp_path / "toy.tar").splitlines()
    assert told[0].startswith(message)
    assert "free some space and run the same command again" in told[0]
    assert told[1:] == []


def test_limit_of_file_size(tmp_path: Path, source: Path, destination: Path) -> None:
    told = run(
        [sys.executable, "-c", CHILD, str(source), str(destination), "small files only"]
    ).splitlines()[0]
    assert told.startswith(f"DataError Cannot write {destination}")
    assert left(destination) == []


def test_no_permission_to_write(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    for parent in [tmp_path, *tmp_path.parents][:3]:  # pytest locks others out of its folders
        parent.chmod(0o755)
    told = run(
        [sys.executable, "-c", CHILD, str(source), str(folder / "images.zip"), "no root"]
    ).splitlines()[0]
    assert told.startswith(f"DataError Cannot write {folder}/images.zip: no permission")
    assert list(folder.iterdir()) == []


def test_script_writes_archive_and_manifest(
    tmp_path: Path, source: Path, make_card: Callable[..., DatasetCard]
) -> None:
    (tmp_path / "config/datasets").mkdir(parents=True)
    (tmp_path / "config/datasets/toy.yaml").write_text(make_card().model_dump_json())
    script = [sys.executable, str(ROOT / "scripts/fetch_data.py"), "--card", "toy"]
    outputs = ["--archive", "raw/images.zip", "--manifest", "raw.json", "--log", "fetch.log"]
    told = run([*script, *outputs], cwd=tmp_path)
    assert told.startswith("fetch_data.py: Cannot get toy.zip")
    assert not (tmp_path / "raw.json").exists()

    told = run([*script, *outputs], cwd=tmp_path, env={"AEFLOW_MIRROR": str(source.parent)})
    assert told.startswith("toy.zip: the card has no checksum; that of this download, sha256 ")
    assert (tmp_path / "config/checksums/toy.json").is_file()

    assert run([*script, "--source", "user/toy.zip", *outputs], cwd=tmp_path) == ""
    [file] = json.loads((tmp_path / "raw.json").read_text())["files"]
    assert file["size_bytes"] == source.stat().st_size
    assert (tmp_path / "raw/images.zip").read_bytes() == source.read_bytes()
    assert str(tmp_path) not in (tmp_path / "raw.json").read_text()


def start(source: str, destination: Path, digest: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, source, str(destination), "no", digest]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    assert any(words in line for line in process.stderr)


def test_killed_while_downloading_the_next_process_goes_on(
    tmp_path: Path, source: Path, destination: Path, server: Server, write_zip: WriteZip
) -> None:
    write_zip(source, {"a.png": os.urandom(400_000)})
    server.files["/toy.zip"] = source.read_bytes()
    server.faults["/toy.zip"] = [Fault(stall=200_000)]
    url, digest = f"{server.url}/toy.zip", sha256(source)
    partial = destination.with_name(".images.zip.toy.zip")
    with start(url, destination, digest) as process:
        read_until(process, "Fetching toy.zip")
        while process.poll() is None and not (partial.exists() and partial.stat().st_size):
            time.sleep(0.01)
        process.kill()
    server.over.set()
    assert process.returncode == -signal.SIGKILL
    with start(url, destination, digest) as process:  # the lock did not outlive the first
        read_until(process, "going on after")
    assert server.offsets[1] > 0
    assert destination.read_bytes() == source.read_bytes()
    assert left(destination) == ["images.json", "images.zip"]


def test_two_processes_fetch_once(
    tmp_path: Path, source: Path, destination: Path, server: Server
) -> None:
    server.files["/toy.zip"] = source.read_bytes()
    server.gate.clear()
    url, digest = f"{server.url}/toy.zip", sha256(source)
    with start(url, destination, digest) as first:
        read_until(first, "Fetching toy.zip")
        with start(url, destination, digest) as second:
            read_until(second, "Another process is fetching")
            server.gate.set()
            read_until(second, "another process has just fetched it")
    assert (first.returncode, second.returncode) == (0, 0)
    assert server.asked == ["/toy.zip"]
    assert destination.read_bytes() == source.read_bytes()
