"""The demo's images, judged by the zip in the repository and by the photographs themselves."""

import io
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from aeflow.data.records import find_records
from aeflow.data.sources import check_file
from aeflow.study.cards import load_dataset_card
from scripts.write_demo_textures import (
    MIN_CHANGE,
    SIDE,
    Crop,
    crops,
    photograph,
    write_demo_textures,
)
from tests.unit.data.helpers import ROOT

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


def shipped(category: str, files: dict[str, bytes]) -> Iterator[tuple[Crop, np.ndarray]]:
    """Yield every crop as it is made, and its mask in the zip."""
    for crop in crops(category):
        name = f"demo_textures/{category}/ground_truth/{crop.defect}/{crop.number:03d}_mask.png"
        mask = pixels(files[name]) if crop.defect != "good" else np.zeros((SIDE, SIDE))
        yield crop, mask


def test_the_zip_is_that_of_the_card_with_its_images_and_nothing_else() -> None:
    [file] = CARD.files
    check_file(file, ROOT / file.urls[0])
    assert file.sha256 is not None
    assert file.size_bytes is not None
    with ZipFile(ROOT / file.urls[0]) as opened:
        for category in CATEGORIES:  # counts and masks are the card's, or this raises
            assert find_records(opened, CARD, category).not_used == []


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
def test_a_mask_marks_exactly_what_differs_from_the_photograph(
    category: str, files: dict[str, bytes]
) -> None:
    # The photograph is the truth: a crop is gain * photograph + offset, perhaps mirrored, rounded
    # and cut off at 0 and 255. Fitted outside the mask, only the rounding may remain there.
    picture = photograph(category)
    for crop, mask in shipped(category, files):
        image = crop.image.astype(float)
        assert set(np.unique(mask)) <= {0, 255}
        fitted = (mask == 0) & (image > 0) & (image < 255)
        row, column = crop.corner
        piece = picture[row : row + SIDE, column : column + SIDE]
        residuals = []
        for candidate in (piece, piece[:, ::-1]):
            line = np.polyfit(candidate[fitted], image[fitted], 1)
            residuals.append(np.abs(image - np.clip(np.polyval(line, candidate), 0, 255)))
        residual = min(residuals, key=lambda residual: residual[mask == 0].max())
        assert residual[mask == 0].max() < 1
        assert np.all(residual[mask == 255] > MIN_CHANGE - 1)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_defect_is_one_visible_region_without_holes(
    category: str, files: dict[str, bytes]
) -> None:
    for crop, mask in shipped(category, files):
        if crop.defect != "good":
            inside = mask > 0
            _, regions = ndimage.label(inside, structure=np.ones((3, 3)))
            assert regions == 1
            assert np.array_equal(ndimage.binary_fill_holes(inside), inside)
            assert 100 <= inside.sum() <= 2500
            assert np.abs(crop.image.astype(int) - crop.clean)[inside].mean() >= 10


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
