"""The embedded demo dataset, judged by its archive and by the photographs themselves."""

import io
import re
import zipfile
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from aeflow.data.demo_textures import MIN_CHANGE, SIDE, Crop, photograph, write_demo_textures
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from aeflow.core.errors import DataError
from aeflow.data import demo_textures
from aeflow.study.cards import load_dataset_card

CARD = load_dataset_card("demo_textures", Path(__file__).parents[3] / "config" / "datasets")
CATEGORIES = CARD.categories


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo_textures.zip"
    write_demo_textures(path)
    return path


@pytest.fixture(scope="module")
def files(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture(scope="module")
def crops() -> dict[str, list[Crop]]:
    return {category: list(demo_textures.crops(category)) for category in CATEGORIES}


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "L"
        return np.asarray(image)


def name_of(category: str, crop: Crop) -> str:
    return f"demo_textures/{category}/{crop.split}/{crop.defect}/{crop.number:03d}.png"


def mask_name_of(category: str, crop: Crop) -> str:
    return f"demo_textures/{category}/ground_truth/{crop.defect}/{crop.number:03d}_mask.png"


def test_writes_the_same_bytes_every_time(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    write_demo_textures(again)
    assert again.read_bytes() == archive.read_bytes()


def test_entries_are_sorted_dated_and_stored_alike(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {(entry.date_time, entry.compress_type) for entry in entries} == {
        ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)
    }


def test_layout_and_counts_are_those_of_the_card(files: dict[str, bytes]) -> None:
    counts: Counter[tuple[str, str, bool]] = Counter()
    masks = set()
    for name in files:
        if match := re.fullmatch(CARD.layout.image, name):
            normal = match["defect"] == CARD.layout.normal
            counts[match["category"], match["split"], normal] += 1
            if not normal:
                masks.add(CARD.layout.mask.format(**match.groupdict()))  # type: ignore[union-attr]
    expected = {
        (category, *kind): number
        for category, facts in CARD.counts.items()
        for kind, number in (
            (("train", True), facts.train_normal),
            (("test", True), facts.test_normal),
            (("test", False), facts.test_anomalous),
        )
    }
    assert counts == expected
    assert {name for name in files if not re.fullmatch(CARD.layout.image, name)} == masks


@pytest.mark.parametrize("category", CATEGORIES)
def test_train_and_test_crops_share_no_column(category: str, crops: dict[str, list[Crop]]) -> None:
    columns: dict[str, set[int]] = {"train": set(), "test": set()}
    for crop in crops[category]:
        columns[crop.split].update(range(crop.corner[1], crop.corner[1] + SIDE))
    assert not columns["train"] & columns["test"]


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_mask_marks_exactly_what_differs_from_the_photograph(
    category: str, crops: dict[str, list[Crop]], files: dict[str, bytes]
) -> None:
    # The photograph is the truth: a crop is gain * photograph + offset, perhaps mirrored, rounded
    # and cut off at 0 and 255. Fitted outside the mask, only the rounding may remain there.
    picture = photograph(category)
    for crop in crops[category]:
        image = pixels(files[name_of(category, crop)]).astype(float)
        mask = np.zeros(image.shape)
        if crop.defect != "good":
            mask = pixels(files[mask_name_of(category, crop)])
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
    category: str, crops: dict[str, list[Crop]]
) -> None:
    for crop in crops[category]:
        if crop.defect == "good":
            assert not crop.mask.any()
            continue
        inside = crop.mask > 0
        _, regions = ndimage.label(inside, structure=np.ones((3, 3)))
        assert regions == 1
        assert np.array_equal(ndimage.binary_fill_holes(inside), inside)
        assert 100 <= inside.sum() <= 2500
        change = np.abs(crop.image.astype(int) - crop.clean)
        assert change[inside].mean() >= 10


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


def test_the_photographs_are_files_of_the_scikit_image_wheel() -> None:
    shipped = {str(file) for file in distribution("scikit-image").files or ()}
    for category, texture in demo_textures.TEXTURES.items():
        assert {f"skimage/data/{name}.png" for name in (category, texture.foreign)} <= shipped


def test_a_missing_photograph_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"no_such_photograph\.png.*install scikit-image"):
        photograph("no_such_photograph")
