"""`aeflow datasets` and `aeflow datasets check`."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from aeflow.cli import main
from aeflow.data.fetch import fetch_dataset
from aeflow.study.cards import DATASET_CARDS, SourceFile
from tests.unit.data.fetching import card_of, sha256

ROOT = Path(__file__).parents[2]
PATH = r"(?P<split>train|test)/(?P<defect>good|hole)/(?P<group>\w+)-\d\.png"
COUNTS = {"train_normal": 5, "train_anomalous": 2, "test_normal": 2, "test_anomalous": 2}
IMAGES = {
    "train/good/a-0.png": b"a0",
    "train/good/b-0.png": b"b0",
    "train/good/b-1.png": b"b0",
    "train/good/i-0.png": b"i0",
    "train/good/j-0.png": b"j0",
    "train/hole/c-0.png": b"c0",
    "train/hole/d-0.png": b"d0",
    "test/good/e-0.png": b"e0",
    "test/good/f-0.png": b"f0",
    "test/hole/g-0.png": b"g0",
    "test/hole/h-0.png": b"h0",
}
Check = Callable[..., tuple[int, list[str]]]


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with the card `toy`; return its archive."""
    archive = write_zip(tmp_path / "toy.zip", IMAGES)
    monkeypatch.chdir(tmp_path)
    file = SourceFile(name="toy.zip", sha256=sha256(archive), size_bytes=archive.stat().st_size)
    layout = {"image": PATH, "normal": "good"}
    DATASET_CARDS.mkdir(parents=True)
    card = card_of(file, layout=layout, counts={"all": COUNTS})
    (DATASET_CARDS / "toy.yaml").write_text(card.model_dump_json())
    return archive


@pytest.fixture
def check(toy: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Check `toy`; return the exit status and what was printed."""

    def run(*options: str) -> tuple[int, list[str]]:
        status = main(["datasets", "check", "toy", *options])
        return status, capsys.readouterr().out.splitlines()

    return run


def fetch(toy: Path) -> Path:
    from aeflow.study.cards import load_dataset_card

    archive = Path("data/raw/toy.zip")
    manifest = Path("data/manifests/raw/toy.json")
    fetch_dataset(load_dataset_card("toy"), archive, manifest, str(toy.parent))
    return archive


def test_every_card_of_the_repository_is_listed() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "aeflow", "datasets"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    titles = [line.partition(":")[0] for line in done.stdout.splitlines() if line[0] != " "]
    assert titles == sorted(path.stem for path in (ROOT / DATASET_CARDS).glob("*.yaml"))
    assert "1,235.5 MB" in done.stdout
    assert "CC BY 4.0" in done.stdout
    assert "Kermany, Zhang, Goldbaum" in done.stdout
    assert "has to be asked for" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "aeflow.study.cards" in imported
    assert not {"torch", "timm", "torchvision"} & imported


def test_the_command_is_installed_under_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["aeflow"].partition(":")
    assert getattr(importlib.import_module(module), function) is main


def test_what_is_present_is_listed(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    assert "present  nothing" in capsys.readouterr().out
    fetch(toy)
    manifest = Path("data/manifests/prepared/toy/all.json")
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert main(["datasets"]) == 0
    expected = "present  archive data/raw/toy.zip (0.0 MB); prepared all"
    assert expected in capsys.readouterr().out


def test_a_dataset_as_its_card_says_passes(toy: Path, check: Check) -> None:
    fetch(toy)
    status, told = check()
    assert told == [
        f"ok     data/raw/toy.zip is what was fetched, sha256 {sha256(toy)}",
        "ok     toy.zip has the checksum it should have",
        "ok     all: 2 test_anomalous, 2 test_normal, 2 train_anomalous, 5 train_normal, as on "
        "the card",
        "note   all: groups of byte-identical images: 1, none in two splits",
        "ok     all: patients or groups: 10, none in two splits",
        "ok     all: with the default settings (patient_disjoint): 4 train, 3 validation, 4 test; "
        "none is in two",
        "toy: passed, notes: 1",
    ]
    assert status == 0


def test_normals_in_two_splits_are_errors(tmp_path: Path, check: Check) -> None:
    shared = {**IMAGES, "test/good/a-1.png": b"a1", "test/good/e-0.png": b"b0"}
    del shared["test/good/f-0.png"]
    status, told = check("--source", str(write_zip(tmp_path / "own.zip", shared)))
    assert status == 1
    assert [line for line in told if line.startswith("error")] == [
        "error  all: byte-identical normal images in two splits: 1, such as test/good/e-0.png "
        "and train/good/b-1.png",
        "error  all: patients or groups with normal images in two splits: 1, such as "
        "test/good/a-1.png and train/good/a-0.png",
    ]
    assert "toy.zip: its checksum does not apply to a copy" in told[0]
    assert told[-1].startswith("toy: failed, errors: 2")


def test_anomalous_images_in_two_splits_are_notes(tmp_path: Path, check: Check) -> None:
    shared = {**IMAGES, "test/hole/c-1.png": b"c1", "test/hole/h-0.png": b"d0"}
    del shared["test/hole/g-0.png"]
    folder = tmp_path / "own"
    for name, content in shared.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    status, told = check("--source", str(folder))
    assert status == 0
    notes = [line for line in told if line.startswith("note")]
    assert "byte-identical anomalous images in two splits: 1" in notes[1]
    assert "patients or groups with anomalous images in two splits: 1" in notes[2]
    assert not Path("data").exists()


def test_what_was_fetched_and_changed_since_fails(toy: Path, check: Check) -> None:
    archive = fetch(toy)
    fewer = dict(list(IMAGES.items())[1:])
    write_zip(archive, fewer)
    status, told = check()
    assert status == 1
    assert "was changed" in told[0]
    assert "train_normal: expected 5, found 4" in told[1]
    manifest = Path("data/manifests/raw/toy.json")
    content = json.loads(manifest.read_text())
    content["placed_sha256"] = content["files"][0]["sha256"] = sha256(archive)
    manifest.write_text(json.dumps(content))
    status, told = check()
    assert told[1].startswith(f"error  toy.zip has sha256 {sha256(archive)}, not {sha256(toy)}")


def test_what_cannot_be_checked_is_said_in_one_sentence(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "cut.zip"
    damaged.write_bytes(toy.read_bytes()[:-30])
    for arguments, words in (
        (["toy"], 'snakemake --config \'datasets=[{"name": "toy"}]\' data/raw/toy.zip`'),
        (["tyo"], "Did you mean 'toy'?"),
        (["toy", "--edition", "64"], "has no edition '64'"),
        (["toy", "--source", str(damaged)], "is no readable zip"),
        (["toy", "--source", "nowhere"], "there is no such file or folder"),
    ):
        assert main(["datasets", "check", *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("aeflow: ")
        assert words in error


def test_a_reader_that_has_seen_enough_is_no_error_to_print() -> None:
    """`aeflow datasets | head -1`: the pipe is closed before anything is written."""
    command = [sys.executable, "-m", "aeflow", "datasets"]
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        done = subprocess.run(
            command, cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == ""
