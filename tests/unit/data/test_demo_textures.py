"""The demo's images, judged by the zip in the repository and by the photographs themselves."""

import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from aeflow.data.fetch import check_file
from aeflow.data.records import find_records
from aeflow.study.cards import load_dataset_card
from scripts.write_demo_textures import MIN_CHANGE, SIDE, crops, photograph, write_demo_textures
from tests.unit.data.processes import ROOT

CARD = load_dataset_card("demo_textures", ROOT / "config/datasets")
CATEGORIES = CARD.categories


def contents(path: Path) -> dict[str, bytes]:
    with ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return contents(ROOT / CARD.files[0].urls[0])


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_the_zip_is_that_of_the_card_with_its_images_and_nothing_else() -> None:
    [file] = CARD.files
    check_file(file, ROOT / file.urls[0])
    assert file.sha256 is not None
    assert file.size_bytes is not None
    with ZipFile(ROOT / file.urls[0]) as opened:
        for category in CATEGORIES:  # counts and masks are the card's, or this raises
            assert find_records(opened, CARD, category).not_used == {}


def test_the_script_writes_the_same_pixels(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_demo_textures(tmp_path / "again.zip")
    again = contents(tmp_path / "again.zip")
    assert list(again) == list(files)
    for name, content in files.items():
        np.testing.assert_array_equal(pixels(again[name]), pixels(content), name)


@pytest.mark.parametrize("category", CATEGORIES)
def test_train_and_test_crops_share_no_column(category: str) -> None:
    columns: dict[str, set[int]] = {"train": set(), "test": set()}
    for crop in crops(category):
        columns[crop.split].update(range(crop.corner[1], crop.corner[1] + SIDE))
    assert not columns["train"] & columns["test"]


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_mask_marks_what_was_drawn_one_visible_region_without_holes(
    category: str, files: dict[str, bytes]
) -> None:
    picture = photograph(category)
    for crop in crops(category):
        row, column = crop.corner
        piece = picture[row : row + SIDE, column : column + SIDE]
        pieces = (piece, piece[:, ::-1])
        fit = max(np.corrcoef(side.ravel(), crop.clean.ravel())[0, 1] for side in pieces)
        assert fit > 0.99  # but for contrast, brightness and mirroring, the photograph
        if crop.defect == "good":
            continue
        name = f"demo_textures/{category}/ground_truth/{crop.defect}/{crop.number:03d}_mask.png"
        change = np.abs(crop.image.astype(int) - crop.clean)
        inside = pixels(files[name]) == 255
        assert np.array_equal(inside, change > 0)
        assert change[inside].min() >= MIN_CHANGE
        assert change[inside].mean() >= 10
        assert 100 <= inside.sum() <= 2500
        assert ndimage.label(inside, structure=np.ones((3, 3)))[1] == 1
        assert np.array_equal(ndimage.binary_fill_holes(inside), inside)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("direction", [1, -1])
def test_no_trivial_statistic_finds_the_defects(
    category: str, direction: int, files: dict[str, bytes]
) -> None:
    names = [name for name in files if name.startswith(f"demo_textures/{category}/test/")]
    images = [pixels(files[name]).astype(float) for name in names]
    anomalous = ["/good/" not in name for name in names]
    statistics = {
        "vertical gradient": [np.abs(np.diff(image, axis=0)).mean() for image in images],
        "horizontal gradient": [np.abs(np.diff(image, axis=1)).mean() for image in images],
        "mean": [image.mean() for image in images],
        "sd": [image.std() for image in images],
        "darkest": [image.min() for image in images],
        "brightest": [image.max() for image in images],
        "PNG size": [len(files[name]) for name in names],
    }
    for statistic, values in statistics.items():
        auroc = roc_auc_score(anomalous, direction * np.asarray(values))
        assert auroc < 0.75, statistic
