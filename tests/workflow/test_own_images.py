"""Folders of one's own are live: an edit runs again what depends on it, and nothing else."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.workflow.conftest import Repository, copy_repository, once

STUDY = {
    "study": "own",
    "datasets": [
        {"name": "screws", "card": "folder_mvtec", "source": "user/screws"},
        {"name": "parts", "card": "folder_two", "source": "user/parts"},
    ],
    "data": {"image_size": 64, "val_fraction": 0.2},
    "encoder": {"name": "efficientnet_lite0", "stages": 3},
    "flow": {"steps": 2, "standardise": "channel"},
    "training": {"epochs": 1, "batch_size": 16, "threads": 1},
    "variants": [{"name": "aeflow"}, {"name": "gradient", "method": "gradient"}],
    "ablations": [],
    "seeds": [0],
    "evaluation": {"bootstrap_replicates": 10},
}
TABLE = "results/own/tables/results.csv"  # nobody here looks at figures and pages
SCREWS = {"train/good": 8, "test/good": 2, "test/dent": 2}
PARTS = {"normal": 10, "anomalous": 3}
# What follows from the images of one dataset, and the tables that show them.
OF_ONE = {"prepare_images": 1, "extract_features": 1, "train_model": 1, "score_images": 2}


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(60, 200, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((40, 48), np.uint8)
    pixels[8 : 8 + side, 10 : 10 + side] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        copy_repository(folder)
        for part, kinds in {"screws": SCREWS, "parts": PARTS}.items():
            for kind, count in kinds.items():
                for n in range(count):
                    draw(folder / "user" / part / kind / f"{n}.png", hash_of(part, kind, n))
        for n in range(2):
            mask(folder / f"user/screws/ground_truth/dent/{n}_mask.png", 12)
        (folder / "own.yaml").write_text(yaml.safe_dump(STUDY))
        Repository(folder).snakemake(TABLE, overlay="own.yaml")

    return once(tmp_path_factory, "own", make)


def hash_of(*words: object) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate("/".join(map(str, words))))


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Repository:
    """The study as it was run, in a place of its own; times stay."""
    shutil.copytree(finished, tmp_path / "own", symlinks=True)
    repository = Repository(tmp_path / "own")
    repository.overlay = "own.yaml"
    return repository


def planned(own: Repository) -> dict[str, int]:
    """Return the planned jobs that belong to a dataset."""
    return {rule: count for rule, count in own.plan().items() if rule in {*OF_ONE, "fetch_data"}}


def sources(own: Repository, **changed: str) -> None:
    text = yaml.safe_dump(
        STUDY
        | {
            "datasets": [
                entry | {"source": changed.get(entry["name"], entry["source"])}
                for entry in STUDY["datasets"]
            ]
        }
    )
    (own.folder / "own.yaml").write_text(text)


def test_the_same_folder_plans_nothing_however_it_is_named(own: Repository) -> None:
    user = own.folder / "user"
    sources(own, screws=str(user / "screws"), parts="./user/../user/parts/")
    assert own.plan(TABLE) == {}
    (own.folder / "mount").symlink_to(user)
    sources(own, screws="mount/screws", parts=f"file://{user}/parts")
    assert own.plan(TABLE) == {}
    shutil.copytree(user / "screws", own.folder / "copy")
    for place in (own.folder / "copy").rglob("*.png"):
        os.utime(place)
    sources(own, screws="copy")
    (user / "parts/readme.md").write_text("Not an image.")
    (user / "parts/.DS_Store").write_bytes(b"")
    assert own.plan(TABLE) == {}, "other times, the same bytes; what no rule reads"


def test_an_edit_plans_its_dataset_and_no_other(own: Repository) -> None:
    screws = own.folder / "user/screws"
    draw(screws / "train/good/0.png", 99)
    assert planned(own) == OF_ONE
    draw(screws / "train/good/0.png", hash_of("screws", "train/good", 0))
    assert planned(own) == {}, "as it was, but for the time"
    edits = [
        lambda: draw(screws / "train/good/new.png", 98),
        lambda: (screws / "train/good/new.png").rename(screws / "test/good/new.png"),
        lambda: (screws / "test/good/new.png").unlink(),
        lambda: mask(screws / "ground_truth/dent/0_mask.png", 20),
        lambda: (screws / "groups.csv").write_text(groups(screws)),
    ]
    for number, edit in enumerate(edits):
        edit()
        expected = {3: {"score_images": 2}, 2: {}}.get(number, OF_ONE)
        assert planned(own) == expected, number
    own.snakemake("data/receipts/prepared/screws/all.json")
    assert (own.folder / "data/prepared/screws/all/index.csv").read_text().count(",train1,") == 2


def groups(folder: Path) -> str:
    places = [place.relative_to(folder) for place in folder.rglob("[!.]*.png")]
    rows = [f"{p},{p.parts[0]}{int(p.stem) % 4}" for p in places if p.parts[0] != "ground_truth"]
    return "\n".join(["file,group", *rows])


def test_a_source_that_is_gone_is_missed_only_where_it_is_needed(own: Repository) -> None:
    (own.folder / "user/screws").rename(own.folder / "elsewhere")
    assert own.plan(TABLE) == {}
    text = (own.folder / "own.yaml").read_text()
    (own.folder / "own.yaml").write_text(text.replace("epochs: 1", "epochs: 2"))
    assert planned(own) == {"train_model": 2, "score_images": 2}
    (own.folder / "own.yaml").write_text(text.replace("image_size: 64", "image_size: 32"))
    done = own.snakemake("data/receipts/prepared/screws/all.json", check=False)
    assert done.returncode == 1
    assert "user/screws" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_archive_of_ones_own_is_live(own: Repository) -> None:
    folder, packed = own.folder / "user/screws", own.folder / "user/packed.zip"
    entry = {"name": "packed", "card": "folder_mvtec", "source": "user/packed.zip"}
    (own.folder / "own.yaml").write_text(yaml.safe_dump(STUDY | {"datasets": [entry]}))
    shutil.make_archive(str(packed.with_suffix("")), "zip", folder)
    assert planned(own) == OF_ONE | {"fetch_data": 1}
    target = "data/receipts/prepared/packed/all.json"
    own.snakemake(target, "data/receipts/masks/packed/all.json")
    assert own.plan(target) == {}
    packed.rename(own.folder / "moved.zip")
    assert own.plan(target) == {}, "it is not needed any more"
    draw(folder / "train/good/0.png", 99)
    shutil.make_archive(str(packed.with_suffix("")), "zip", folder)
    assert own.plan(target) == {"fetch_data": 1, "prepare_images": 1}


@pytest.mark.parametrize(
    ("source", "card", "message"),
    [
        ("user/nowhere", "folder_mvtec", "datasets[screws].source: user/nowhere does not exist"),
        ("user/parts", "folder_mvtec", "This looks like the card folder_two"),
        ("own.yaml", "folder_two", "neither a zip nor a tar archive"),
    ],
)
def test_a_wrong_source_is_told_when_the_workflow_is_read(
    own: Repository, source: str, card: str, message: str
) -> None:
    shutil.rmtree(own.folder / "data")
    entry = {"name": "screws", "card": card, "source": source}
    (own.folder / "own.yaml").write_text(yaml.safe_dump(STUDY | {"datasets": [entry]}))
    done = own.snakemake("--dry-run", check=False)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert message in said
    assert "Traceback" not in done.stderr
