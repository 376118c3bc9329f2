"""Full disks and locked folders, in processes of their own; and the script."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aeflow.cards import DatasetCard

WriteZip = Callable[[Path, dict[str, bytes]], Path]
ROOT = Path(__file__).parents[3]


def assert_nothing_left(destination: Path) -> None:
    assert not destination.parent.exists() or list(destination.parent.iterdir()) == []


CARD = """
{"name": "toy", "title": "Toy", "licence": "none", "citation": "none",
 "files": [{"name": "toy.zip"}], "layout": {"image": "(?P<split>)(?P<defect>)", "normal": "good"},
 "counts": {"all": {"train_normal": 1, "test_normal": 1, "test_anomalous": 0}}}
"""
CHILD = """
import os, resource, sys
from pathlib import Path
from aeflow.cards import DatasetCard
from aeflow.data.fetch import fetch_dataset
from aeflow.errors import DataError
if sys.argv[3:] == ["small files only"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
if sys.argv[3:] == ["no root"] and os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
try:
    card = DatasetCard.model_validate_json(os.environ["CARD"])
    fetch_dataset(card, Path(sys.argv[2]), None, sys.argv[1])
except DataError as error:
    print("DataError:", error)
"""


def run(command: list[str], **options: object) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CARD": CARD,
    }
    finished = subprocess.run(
        command,
        env={**environment, "CARD": CARD},
        capture_output=True,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    return str(finished.stdout + finished.stderr)


def test_full_disk(tmp_path: Path, write_zip: WriteZip) -> None:
    """A file system of 1 MiB in a mount namespace of its own: it ends with the process."""
    source = write_zip(tmp_path / "toy.zip", {"a.png": os.urandom(2**21)})
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m tmpfs {disk}"
    if "denied" in (refusal := run(["unshare", "-rm", "sh", "-c", f"{mount} || echo denied"])):
        pytest.skip(f"cannot mount here: {refusal}")
    fetch = f"{sys.executable} -c '{CHILD}' {source} {disk}/raw/images.zip; ls -A {disk}/raw"
    told = run(["unshare", "-rm", "sh", "-c", f"{mount} && {fetch}"])
    assert told.startswith(f"DataError: Cannot write {disk}/raw/images.zip: the disk is full")
    assert told.count("\n") == 1  # ls found nothing


def test_limit_of_file_size(tmp_path: Path, source: Path, destination: Path) -> None:
    told = run([sys.executable, "-c", CHILD, str(source), str(destination), "small files only"])
    assert told.startswith(f"DataError: Cannot write {destination}")
    assert_nothing_left(destination)


def test_no_permission_to_write(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    for parent in [tmp_path, *tmp_path.parents][:3]:  # pytest locks others out of its folders
        parent.chmod(0o755)
    told = run([sys.executable, "-c", CHILD, str(source), str(folder / "images.zip"), "no root"])
    assert told.startswith(f"DataError: Cannot write {folder}/images.zip: no permission")
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

    assert run([*script, "--source", "user/toy.zip", *outputs], cwd=tmp_path) == ""
    [file] = json.loads((tmp_path / "raw.json").read_text())["files"]
    assert file["size_bytes"] == source.stat().st_size
    assert (tmp_path / "raw/images.zip").read_bytes() == source.read_bytes()
    assert str(tmp_path) not in (tmp_path / "raw.json").read_text()
