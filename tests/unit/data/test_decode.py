"""Pixels of image and mask files: depth, colour, geometry, damage."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from aeflow.data.decode import UnusableImageError, decode_image, decode_mask
from aeflow.study.settings import DataSettings
from tests.unit.data.toy_dataset import encode, noise

SIDE = 32
Array = NDArray[Any]


def settings(side: int = SIDE, **changes: object) -> DataSettings:
    return DataSettings.model_validate({"image_size": side, **changes})


def decode(content: bytes, **changes: Any) -> Array:
    return decode_image(content, settings(**changes))[0]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_image_of_the_right_size_is_untouched(kind: str) -> None:
    pixels = noise()
    found, size = decode_image(encode(pixels, kind), settings())
    assert found.dtype == np.uint8
    assert size == (SIDE, SIDE)
    np.testing.assert_array_equal(found, pixels)


def test_image_is_squashed_not_cropped() -> None:
    pixels = np.zeros((64, 320, 3), np.uint8)
    pixels[:, :80] = 200  # the left quarter
    pixels[:16, :, 2] = 100  # the top quarter, blue
    found = decode(encode(pixels)).astype(int)
    assert decode_image(encode(pixels), settings())[1] == (320, 64)
    np.testing.assert_array_equal(found[12:, :6], 200 * np.ones((20, 6, 1)) * [1, 1, 1])
    np.testing.assert_array_equal(found[12:, 10:], np.zeros((20, 22, 3)))
    np.testing.assert_array_equal(found[:6, 10:, 2], np.full((6, 22), 100))


def test_downscaling_is_antialiased() -> None:
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    inner = decode(encode(stripes))[:, 1:-1].astype(float)
    assert np.abs(inner - 127.5).max() <= 1


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.zeros((SIDE, SIDE), np.uint16)
    values.flat[: 256 * 3] = np.repeat(np.arange(256), 3) * 257  # exactly 0, 1, ... 255
    values[-1, :5] = [128, 129, 65535, 65407, 65406]
    expected = np.round(values / 65535 * 255)
    for content in (
        encode(values),
        encode(values, "TIFF"),
        encode(Image.frombytes("I;16B", (SIDE, SIDE), values.astype(">u2").tobytes()), "TIFF"),
        b"P5 32 32 65535\n" + values.astype(">u2").tobytes(),
    ):
        np.testing.assert_array_equal(decode(content)[:, :, 1], expected)


@pytest.mark.parametrize("value", [-1, 65536])
def test_more_than_sixteen_bits_are_unusable(value: int) -> None:
    with pytest.raises(UnusableImageError, match="more than 16 bits"):
        decode(encode(np.full((SIDE, SIDE), value, np.int32), "TIFF"))


def test_every_kind_of_colour_becomes_rgb() -> None:
    gray, bits, pixels = noise(channels=1), noise(channels=1) > 127, noise()
    np.testing.assert_array_equal(decode(encode(gray)), np.dstack([gray] * 3))
    np.testing.assert_array_equal(decode(encode(bits))[:, :, 0], bits * 255)
    palette = Image.fromarray(gray % 4, "P")
    colours = np.array([[0, 0, 0], [255, 0, 0], [10, 20, 30], [9, 8, 7]], np.uint8)
    palette.putpalette(colours.tobytes())
    np.testing.assert_array_equal(decode(encode(palette)), colours[np.asarray(palette)])
    cyan = Image.new("CMYK", (SIDE, SIDE), (255, 0, 0, 0))
    assert np.abs(decode(encode(cyan, "JPEG")).astype(int) - [0, 255, 255]).max() <= 2
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    found = decode(encode(pixels), grayscale=True)
    assert np.abs(found - luma[:, :, None]).max() <= 1


def test_transparency_is_put_on_black() -> None:
    pixels, gray = noise(channels=4), noise(channels=2)
    expected = pixels[:, :, :3] * (pixels[:, :, 3:] / 255)
    assert np.abs(decode(encode(pixels)) - expected).max() <= 1
    expected = gray[:, :, 0] * (gray[:, :, 1] / 255)
    assert np.abs(decode(encode(gray))[:, :, 0] - expected).max() <= 1
    palette = Image.fromarray(np.ones((SIDE, SIDE), np.uint8), "P")
    palette.putpalette([255] * 12)
    assert decode(encode(palette)).min() == 255
    assert decode(encode(palette, transparency=1)).max() == 0
    white = Image.new("RGB", (SIDE, SIDE), "white")
    assert decode(encode(white, transparency=(255, 255, 255))).max() == 0


UPRIGHT: dict[int, Callable[[Array], Array]] = {
    # Orientation: which side of the scene the stored first row and first column are.
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.swapaxes(0, 1),  # left, top
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda a: a.swapaxes(0, 1)[::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = noise()
    found = decode(encode(stored, exif=exif))
    np.testing.assert_array_equal(found, UPRIGHT[orientation](stored))
    oblong = encode(noise(40, 50), "JPEG", exif=exif)
    assert decode_image(oblong, settings())[1] == ((50, 40) if orientation < 5 else (40, 50))


def test_first_of_several_frames() -> None:
    frames = [Image.new("L", (SIDE, SIDE), value) for value in (50, 200)]
    for kind in ("GIF", "TIFF"):
        content = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        assert set(decode(content).flat) == {50}


def test_center_crop_keeps_the_centre() -> None:
    pixels = np.zeros((128, 256, 3), np.uint8)
    pixels[32:96, 64:192] = 255  # the central half of either axis
    assert decode(encode(pixels), side=64, center_crop=32)[1:-1, 1:-1].min() == 255
    assert decode(encode(pixels), side=64, center_crop=36)[2:-2, 2:-2].min() < 255
    # One step gives the geometry of squashing, cropping and resizing in three.
    smooth = ndimage.gaussian_filter(noise(300, 300, 1).astype(float), 20)
    smooth = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    squashed = Image.fromarray(smooth).resize((64, 64), Image.Resampling.BILINEAR)
    steps = squashed.crop((8, 8, 56, 56)).resize((64, 64), Image.Resampling.BILINEAR)
    found = decode(encode(smooth), side=64, center_crop=48)[:, :, 0].astype(float)
    assert np.abs(found - np.asarray(steps)).max() < 6


def test_large_jpeg_looks_like_the_whole_decoded_one() -> None:
    pixels = np.kron(noise(64, 64), np.ones((16, 24, 1), np.uint8))  # 1024 x 1536
    content = encode(pixels, "JPEG", quality=95)
    whole = np.asarray(Image.open(io.BytesIO(content)))
    difference = decode(content, side=64).astype(float) - decode(encode(whole), side=64)
    assert np.abs(difference).mean() < 2


def giant(width: int, height: int) -> bytes:
    """A PNG whose header promises more than is there."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + chunk.replace(b"IHDR", b"IDAT")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "file is empty"),
        (b"hello", "not an image of a known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "not an image of a known kind"),
        (encode(noise(64, 64), "JPEG")[:1500], "cannot be decoded"),
        (encode(noise(64, 64))[:5000], "cannot be decoded"),
        (encode(noise(64, 64), "JPEG")[:15], "known kind|cannot be"),
        (encode(noise(1, 1)[None, None]), "1 x 1 pixels"),
        (encode(noise(100, 7)), "7 x 100 pixels, a side is below 8"),
        (giant(12_000, 9_000), "12000 x 9000, more than 100,000,000 pixels"),
        (giant(60_000, 60_000), "more than 100,000,000 pixels"),
        (encode(np.zeros((SIDE, SIDE), np.float32), "TIFF"), "floating-point"),
    ],
)
def test_unusable_images_have_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnusableImageError, match=reason):
        decode(content)


@given(st.data())
@hypothesis_settings(max_examples=200, deadline=None)
def test_damaged_bytes_are_an_image_or_unusable(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM"]))
    content = bytearray(encode(noise(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(content) // 2, len(content)))
    with contextlib.suppress(UnusableImageError):
        assert decode(bytes(content[:cut])).shape == (SIDE, SIDE, 3)


def mask_of(defect: Array, side: int = SIDE, **changes: Any) -> Array:
    content = encode(defect.astype(np.uint8) * 255)
    return decode_mask(content, settings(side, **changes), defect.shape[::-1])


def test_every_value_above_zero_is_a_defect() -> None:
    defect = noise(channels=1) < 60
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
    defect[0:2, 0:3] = True  # one and a half pixels of the result
    defect[0:2, 20:22] = True  # one of a block's ...
    defect[2:3, 20:21] = True  # ... pixels, a quarter of the next below: not
    expected = np.zeros((32, 32), bool)
    expected[0, :2] = expected[0, 10] = True
    np.testing.assert_array_equal(mask_of(defect), expected)


def test_enlarged_mask_is_no_grey_and_no_larger() -> None:
    defect = noise(16, 16, 1) > 200
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


def test_area_of_defects_is_kept() -> None:
    assert mask_of(np.zeros((50, 60), bool)).sum() == 0
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


def test_mask_of_another_size_is_unusable() -> None:
    with pytest.raises(UnusableImageError, match="mask is 40 x 30 pixels, the image 41 x 30"):
        decode_mask(encode(noise(30, 40, 1)), settings(), (41, 30))
