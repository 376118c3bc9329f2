"""Fixtures of the tests of aeflow.data."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from aeflow.study.cards import DatasetCard
from tests.unit.data.faulty_server import Server, serving
from tests.unit.data.toy_dataset import MEMBERS, encode, make_card, noise, write_zip


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's zip; its folder's parent is the working folder."""
    monkeypatch.chdir(tmp_path)  # recorded checksums go to config/ there
    (tmp_path / "user").mkdir()
    return write_zip(tmp_path / "user/toy.zip", MEMBERS)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "raw/images.zip"


@pytest.fixture
def members() -> dict[str, bytes]:
    """40 training normals, 6 training anomalies, 5 + 5 test images, 5 masks."""
    kinds = {"train/good": 40, "train/hole": 6, "test/good": 5, "test/hole": 5}
    found = {}
    for kind, (folder, count) in enumerate(kinds.items()):
        for number in range(count):
            width = 40 + number % 5
            pixels = noise(36, width, seed=1000 * kind + number)
            found[f"toy/{folder}/{number:02}.png"] = encode(pixels)
            if folder == "test/hole":
                mask = Image.new("L", (width, 36))
                mask.paste(1, (number, 4, number + 9, 20))
                found[f"toy/ground_truth/hole/{number:02}_mask.png"] = encode(mask)
    return found


@pytest.fixture
def card() -> DatasetCard:
    numbers = {"train_normal": 40, "train_anomalous": 6, "test_normal": 5, "test_anomalous": 5}
    mask = "toy/ground_truth/{defect}/{stem}_mask.png"
    return make_card(counts={"all": numbers}, layout={"mask": mask})


@pytest.fixture
def archive(tmp_path: Path, members: dict[str, bytes]) -> Path:
    return write_zip(tmp_path / "toy.zip", members)
