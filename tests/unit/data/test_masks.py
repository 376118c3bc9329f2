import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from aeflow.data.decode import UnusableImageError, decode_mask
from aeflow.study.settings import DataSettings

SIDE = 32
Array = NDArray[Any]


def settings(side: int = SIDE, **changes: object) -> DataSettings:
    return DataSettings.model_validate({"image_size": side, **changes})


def encode(image: Image.Image | Array) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "PNG")
    return file.getvalue()


def noise(height: int = SIDE, width: int = SIDE) -> Array:
    values: Array = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    return values


def mask_of(defect: Array, side: int = SIDE, **changes: Any) -> Array:
    content = encode(defect.astype(np.uint8) * 255)
    return decode_mask(content, settings(side, **changes), defect.shape[::-1])


def test_every_value_above_zero_is_a_defect() -> None:
    defect = noise() < 60
    palette = Image.fromarray(defect.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 0, 0, 1])
    for content in (
        encode(defect),
        encode(defect.astype(np.uint8)),
        encode(defect.astype(np.uint16)),
        encode(np.dstack([defect * 0, defect * 0, defect]).astype(np.uint8)),
        encode(palette),
    ):
        found = decode_mask(content, settings(), (SIDE, SIDE))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, defect)


def test_half_covered_pixels_are_defects() -> None:
    defect = np.zeros((64, 64), bool)
    defect[0:2, 0:1] = True  # half of a pixel of the result
    defect[0:2, 20:22] = True  # one of a block's ...
    defect[2:3, 20:21] = True  # ... pixels, a quarter of the next below: not
    expected = np.zeros((32, 32), bool)
    expected[0, 0] = expected[0, 10] = True
    np.testing.assert_array_equal(mask_of(defect), expected)


def test_enlarged_mask_is_no_grey_and_no_larger() -> None:
    defect = noise(16, 16) > 200
    np.testing.assert_array_equal(mask_of(defect, 64), np.kron(defect, np.ones((4, 4))))


@given(st.integers(0, 10_000), st.integers(20, 300), st.integers(20, 300), st.integers(0, 6))
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_defect_is_lost_and_none_grows(seed: int, height: int, width: int, spots: int) -> None:
    rng = np.random.default_rng(seed)
    defect = np.zeros((height, width), bool)
    for _ in range(spots):
        y, x = rng.integers(height), rng.integers(width)
        defect[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = True
    found = mask_of(defect)
    regions, count = ndimage.label(defect, np.ones((3, 3)))
    for region in range(1, count + 1):
        y, x = np.nonzero(regions == region)
        rows, columns = (2 * y + 1) * SIDE // (2 * height), (2 * x + 1) * SIDE // (2 * width)
        assert found[rows, columns].any()
    # Nothing where there is no defect: a set pixel overlaps one.
    for row, column in np.argwhere(found):
        top, left = row * height // SIDE, column * width // SIDE
        bottom, right = -(-(row + 1) * height // SIDE), -(-(column + 1) * width // SIDE)
        assert defect[top:bottom, left:right].any()


def test_area_of_large_defects_is_kept() -> None:
    y, x = np.mgrid[:500, :700]
    disc = (y - 200) ** 2 + (x - 300) ** 2 < 150**2
    assert mask_of(disc, 256).mean() == pytest.approx(disc.mean(), rel=0.01)


def test_mask_is_cropped_like_its_image() -> None:
    defect = np.zeros((128, 256), bool)
    defect[10:20, 10:20] = True  # outside the centre
    defect[32:64, 64:128] = True  # the upper left quarter of it
    expected = np.zeros((64, 64), bool)
    expected[:32, :32] = True
    np.testing.assert_array_equal(mask_of(defect, 64, center_crop=32), expected)


def test_empty_mask_stays_empty() -> None:
    assert mask_of(np.zeros((50, 60), bool)).sum() == 0


def test_mask_of_another_size_is_unusable() -> None:
    with pytest.raises(UnusableImageError, match="mask is 40 x 30 pixels, the image 41 x 30"):
        decode_mask(encode(noise(30, 40)), settings(), (41, 30))
