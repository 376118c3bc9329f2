"""Full disks and killed processes, in processes of their own."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from aeflow.study.cards import DatasetCard

WriteZip = Callable[[Path, dict[str, bytes]], Path]
MakeCard = Callable[..., DatasetCard]
ROOT = Path(__file__).parents[3]
OUTPUTS = ("images.npy", "masks.npy", "index.csv")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_nothing_left(folder: Path) -> None:
    assert not folder.exists() or list(folder.iterdir()) == []


CHILD = """
import os, resource, sys
from pathlib import Path
from aeflow.study.cards import DatasetCard
from aeflow.data.prepare import prepare_images
from aeflow.core.errors import DataError
from aeflow.study.settings import DataSettings
if __name__ == "__main__":
    archive, card, out, *limit = sys.argv[1:]
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[0]), int(limit[0])))
    card = DatasetCard.model_validate_json(Path(card).read_text())
    settings = DataSettings(image_size=256, val_fraction=0.25)
    outputs = [Path(out, name) for name in ("images.npy", "masks.npy", "index.csv")]
    try:
        prepare_images(Path(archive), card, "all", settings, *outputs, 2)
    except DataError as error:
        print("DataError:", error)
"""


@pytest.fixture
def child(tmp_path: Path, card: DatasetCard, archive: Path) -> list[str]:
    """The command that prepares the archive at 256 pixels (11 MB) into a folder to be added."""
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "card.json").write_text(card.model_dump_json())
    return [sys.executable, str(tmp_path / "child.py"), str(archive), str(tmp_path / "card.json")]


def run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    return finished.stdout + finished.stderr


def test_full_disk(tmp_path: Path, child: list[str]) -> None:
    """A file system of 2 MiB in a mount namespace of its own: it ends with the process."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=2m tmpfs {disk}"
    if "denied" in (refusal := run(["unshare", "-rm", "sh", "-c", f"{mount} || echo denied"])):
        pytest.skip(f"cannot mount here: {refusal}")
    told = run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && {' '.join(child)} {disk}; ls -A {disk}"]
    )
    assert told.startswith(f"DataError: Cannot write {disk}/images.npy: the disk is full")
    assert told.count("\n") == 1  # ls found nothing


def test_limit_of_file_size(tmp_path: Path, child: list[str]) -> None:
    told = run([*child, str(tmp_path / "out"), "1000000"])
    assert told.startswith(f"DataError: Cannot write {tmp_path}/out/images.npy: files of that")
    assert_nothing_left(tmp_path / "out")


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in text.split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def slow_child(
    tmp_path: Path, archive: Path, child: list[str], write_zip: WriteZip, make_card: MakeCard
) -> list[str]:
    """As `child`, with images that take long to decode, so that a kill comes in the middle."""
    file = io.BytesIO()
    Image.effect_noise((1500, 1500), 90).save(file, "PNG", compress_level=1)
    names = [f"toy/train/good/{n:02}.png" for n in range(20)]
    names += [f"toy/test/good/{n:02}.png" for n in range(5)]
    write_zip(archive, {name: file.getvalue() + name.encode() for name in names})
    card = make_card({"all": {"train_normal": 20, "test_normal": 5, "test_anomalous": 0}})
    (tmp_path / "card.json").write_text(card.model_dump_json())
    return child


def test_killed_and_started_again(tmp_path: Path, slow_child: list[str]) -> None:
    out = tmp_path / "out"
    part = out / ".images.part.npy"
    process = subprocess.Popen(
        [*slow_child, str(out)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    wait_until(lambda: part.exists() and part.stat().st_size > 25 * 256 * 256 * 3)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) >= 2
    assert not any((out / name).exists() for name in OUTPUTS)
    wait_until(lambda: not any(map(is_running, workers)))  # no orphan waits for work for ever

    assert run([*slow_child, str(out)]) == ""
    assert run([*slow_child, str(tmp_path / "undisturbed")]) == ""
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert sorted(contents(out)) == sorted(OUTPUTS)


def test_killed_worker_is_an_error(tmp_path: Path, slow_child: list[str]) -> None:
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*slow_child, str(out)], env=environment, stdout=subprocess.PIPE, text=True
    )
    wait_until((out / ".images.part.npy").exists)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    told, _ = process.communicate(timeout=30)
    assert told.startswith("DataError: A process that read")
    assert_nothing_left(out)
