"""Small archives, images and cards for the tests of aeflow.data."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from aeflow.study.cards import DatasetCard
from tests.unit.data.fetching import Server, serving

ImageBytes = Callable[..., bytes]
MEMBERS = {"toy/train/good/a.png": b"a" * 5000, "toy/test/good/b.png": b"b" * 5000}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture
def source(
    tmp_path: Path, write_zip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)  # recorded checksums go to config/ in the working folder
    (tmp_path / "user").mkdir()
    return write_zip(tmp_path / "user/toy.zip", MEMBERS)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "raw/images.zip"


@pytest.fixture
def image_bytes() -> ImageBytes:
    """Encode noise that depends on the seed as an image file."""

    def encode(seed: int = 0, width: int = 40, height: int = 32, kind: str = "PNG") -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        return file.getvalue()

    return encode


@pytest.fixture
def write_zip() -> Callable[[Path, dict[str, bytes]], Path]:
    """Write a zip with the given members, in their order."""

    def write(path: Path, members: dict[str, bytes]) -> Path:
        with ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return write


@pytest.fixture
def make_card() -> Callable[..., DatasetCard]:
    """Make the card of a dataset `toy`: toy/<split>/<defect>/<group>_<n>.png."""

    def make(counts: dict[str, dict[str, int]] | None = None, **layout: Any) -> DatasetCard:
        return DatasetCard.model_validate(
            {
                "name": "toy",
                "title": "Toy",
                "licence": "none",
                "citation": "none",
                "files": [{"name": "toy.zip"}],
                "layout": {
                    "image": r"toy/(?P<split>train|test)/(?P<defect>[^/]+)/(?P<stem>[^/]+)\.png",
                    "normal": "good",
                    **layout,
                },
                "counts": counts
                or {"all": {"train_normal": 1, "test_normal": 1, "test_anomalous": 0}},
            }
        )

    return make


@pytest.fixture
def members(image_bytes: ImageBytes) -> dict[str, bytes]:
    """40 training normals, 6 training anomalies, 5 + 5 test images, 5 masks."""
    kinds = {"train/good": 40, "train/hole": 6, "test/good": 5, "test/hole": 5}
    found = {}
    for seed, (folder, count) in enumerate(kinds.items()):
        for number in range(count):
            name = f"toy/{folder}/{number:02}.png"
            found[name] = image_bytes(1000 * seed + number, 40 + number % 5, 36)
            if folder == "test/hole":
                mask = Image.new("L", (40 + number % 5, 36))
                mask.paste(1, (number, 4, number + 9, 20))
                file = io.BytesIO()
                mask.save(file, "PNG")
                found[f"toy/ground_truth/hole/{number:02}_mask.png"] = file.getvalue()
    return found


@pytest.fixture
def card(make_card: Callable[..., DatasetCard]) -> DatasetCard:
    numbers = {"train_normal": 40, "train_anomalous": 6, "test_normal": 5, "test_anomalous": 5}
    return make_card({"all": numbers}, mask="toy/ground_truth/{defect}/{stem}_mask.png")


@pytest.fixture
def archive(tmp_path: Path, write_zip: Callable[..., Path], members: dict[str, bytes]) -> Path:
    return write_zip(tmp_path / "toy.zip", members)
