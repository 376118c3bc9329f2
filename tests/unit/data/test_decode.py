"""Pixels of image and mask files: depth, colour, geometry, damage."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from pydicom import uid
from scipy import ndimage

from aeflow.data.decode import (
    GRAY_MASK,
    MOST_DEFECT,
    NO_DEFECT,
    UNTURNED_MASK,
    decode_image,
    decode_mask,
    look_at_image,
)
from aeflow.data.image_files import (
    FIRST_CHANNELS,
    FIRST_FRAME,
    NOT_FINITE,
    OF_CMYK,
    OF_LAB,
    ONE_CHANNEL,
    ImageFacts,
    UnusableImageError,
    open_image,
)
from aeflow.data.intensity import Levels
from aeflow.study.settings import DataSettings
from tests.unit.data.dicom_files import dicom
from tests.unit.data.image_kinds import DEEP, SIDE, Array, deep, tiff, to_big
from tests.unit.data.toy_dataset import encode, noise


def settings(side: int = SIDE, **changes: object) -> DataSettings:
    return DataSettings.model_validate({"image_size": side, **changes})


def decode(content: bytes, **changes: Any) -> Array:
    return decode_image(content, settings(**changes)).pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_image_of_the_right_size_is_untouched(kind: str) -> None:
    pixels = noise()
    found, facts = decode_image(encode(pixels, kind), settings())
    assert found.dtype == np.uint8
    assert facts.size == (SIDE, SIDE)
    np.testing.assert_array_equal(found, pixels)


def test_image_is_squashed_not_cropped() -> None:
    pixels = np.zeros((64, 320, 3), np.uint8)
    pixels[:, :80] = 200  # the left quarter
    pixels[:16, :, 2] = 100  # the top quarter, blue
    found = decode(encode(pixels)).astype(int)
    assert decode_image(encode(pixels), settings()).facts.size == (320, 64)
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
    with pytest.raises(UnusableImageError, match=r"data\.intensity: full cannot take"):
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


def test_a_transparent_colour_is_black() -> None:
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
    shown = (50, 40) if orientation < 5 else (40, 50)
    assert decode_image(oblong, settings()).facts.size == shown
    assert look_at_image(oblong, settings()).size == shown


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "deep TIFF"])
def test_first_of_several_frames_is_used_and_told_or_another_chosen(kind: str) -> None:
    if kind == "deep TIFF":
        content = tiff(np.stack([np.full((SIDE, SIDE), 257 * v, np.uint16) for v in (50, 200)]))
    else:
        frames = [Image.new("L", (SIDE, SIDE), value) for value in (50, 200)]
        content = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    found = decode_image(content, settings())
    assert set(found.pixels.flat) == {50}
    assert found.facts.frames == 2
    assert found.facts.notes == (FIRST_FRAME,) == look_at_image(content, settings()).notes
    second = decode_image(content, settings(frame=2))
    assert set(second.pixels.flat) == {200}
    assert second.facts.notes == ()
    with pytest.raises(UnusableImageError, match=r"it has 2 frames, data\.frame is 3"):
        decode(content, frame=3)
    single = encode(noise())
    np.testing.assert_array_equal(decode(single, frame=3), decode(single))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", DEEP)
def test_used_bits_of_sixteen_become_eight(kind: str, bits: int, channels: int) -> None:
    """In every format that has 16 bits, gray and colour."""
    values = deep(bits, channels)
    content = DEEP[kind](values)
    expected = np.broadcast_to(np.atleast_3d(values), (SIDE, SIDE, 3)).astype(float)
    found = decode_image(content, settings())
    np.testing.assert_array_equal(found.pixels, np.rint(expected / 257))
    facts = found.facts
    assert (facts.bits, facts.channels, facts.full) == (16, channels, Levels(0, 65535))
    assert facts.used is not None
    assert (facts.used.lowest, facts.used.highest) == (0, 2**bits - 1)
    assert look_at_image(content, settings(), measured=True) == facts
    levels = Levels(0, 2**bits - 1)
    for intensity in ("range", "percentiles"):
        spread, _ = decode_image(content, settings(intensity=intensity), levels)
        np.testing.assert_array_equal(spread, np.rint(expected * (255 / levels.high)))
    with pytest.raises(UnusableImageError, match="no training normal has more than 8"):
        decode(content, intensity="range")
    with pytest.raises(UnusableImageError, match="VOI window"):
        decode(content, intensity="window")


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_file_that_says_its_bits_is_taken_at_its_word(bits: int) -> None:
    values = deep(bits)
    header = b"P5\n# of a camera\n32 32\n%d\n" % (2**bits - 1)
    for content in (
        tiff(values, bitspersample=bits),
        imagecodecs.jpeg2k_encode(values, level=0, bitspersample=bits),
        imagecodecs.jpeg_encode(values, bitspersample=bits, lossless=True),
        header + to_big(values),
    ):
        found, facts = decode_image(content, settings())
        assert (facts.bits, facts.full) == (bits, Levels(0, 2**bits - 1))
        np.testing.assert_array_equal(found[:, :, 0], np.rint(values * (255 / (2**bits - 1))))


def test_eight_bits_stay_whatever_the_intensity() -> None:
    pixels = noise() // 4
    for kind in ("PNG", "TIFF", "JPEG2000", "WEBP"):
        content = encode(pixels, kind, **({"lossless": True} if kind == "WEBP" else {}))
        for intensity in ("full", "range", "percentiles", "window"):
            found = decode_image(content, settings(intensity=intensity), Levels(0, 4095))
            np.testing.assert_array_equal(found.pixels, pixels)
            assert found.facts.used is None
    for content in (
        imagecodecs.jpegls_encode(pixels),
        imagecodecs.jpeg_encode(pixels, lossless=True),
    ):
        np.testing.assert_array_equal(decode(content), pixels)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16, np.int32])
def test_types_without_a_known_black_and_white_need_measured_levels(kind: type) -> None:
    values = np.linspace(-1000, 3000, SIDE * SIDE).reshape(SIDE, SIDE).astype(kind)
    content = tiff(values)
    with pytest.raises(UnusableImageError, match=r"data\.intensity.* to range or percentiles"):
        decode(content)
    found = decode_image(content, settings(intensity="range"), Levels(-1000, 3000)).pixels
    expected = np.rint((values.astype(float) + 1000) / 4000 * 255)
    np.testing.assert_array_equal(found[:, :, 2], expected)


def test_bytes_below_zero_are_darker_than_those_above() -> None:
    values = np.arange(-128, 128, dtype=np.int8).reshape(8, 32).repeat(4, axis=0)
    found, facts = decode_image(tiff(values), settings())
    np.testing.assert_array_equal(found[:, :, 0], values.astype(int) + 128)
    assert facts.full == Levels(-128, 127)


@pytest.mark.parametrize("kind", [np.uint64, np.int64])
@pytest.mark.parametrize("end", ["min", "max"])
def test_integers_at_the_ends_of_64_bits_are_spread(kind: type, end: str) -> None:
    values = np.full((SIDE, SIDE), getattr(np.iinfo(kind), end), kind)
    levels = Levels(float(values[0, 0]) - 2.0**40, float(values[0, 0]) + 2.0**40)
    found = decode_image(tiff(values), settings(intensity="range"), levels).pixels
    assert np.abs(found.astype(int) - 127.5).max() < 1


def test_pixels_that_are_no_number_are_black_and_told() -> None:
    values = np.full((SIDE, SIDE), 5, np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    found, facts = decode_image(tiff(values), settings(intensity="range"), Levels(0, 10))
    assert found[0, :4, 0].tolist() == [0, 255, 0, 128]
    assert facts.notes == (NOT_FINITE,)
    assert facts.used == (5, 5, 5, 5)
    values[:] = np.nan
    with pytest.raises(UnusableImageError, match="none of its pixels is a finite number"):
        decode_image(tiff(values), settings(intensity="range"), Levels(0, 10))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_deep_tiffs_of_any_compression(
    compression: str | None, order: Any, orientation: int
) -> None:
    options = {"compression": compression, "byteorder": order}
    options["extratags"] = [(274, "H", 1, orientation, False)]
    upright = UPRIGHT[orientation]
    for channels, photometric in ((1, "minisblack"), (1, "miniswhite"), (3, "rgb")):
        values = deep(16, channels)
        content = tiff(values, photometric=photometric, predictor=bool(compression), **options)
        shown = np.atleast_3d(65535 - values if photometric == "miniswhite" else values)
        expected = np.broadcast_to(upright(shown), (SIDE, SIDE, 3)) / 257
        if (compression, order, photometric) == ("lzw", ">", "miniswhite"):
            with pytest.raises(UnusableImageError, match="LZW is not read"):
                decode(content)
            continue
        np.testing.assert_array_equal(decode(content), np.rint(expected))
    stacked = deep(16, 3).transpose(2, 0, 1).copy()
    content = tiff(stacked, photometric="rgb", planarconfig="separate", **options)
    if compression == "lzw":
        with pytest.raises(UnusableImageError, match="LZW is not read: compress it by Deflate"):
            decode(content)
        return
    expected = upright(stacked.transpose(1, 2, 0)) / 257
    np.testing.assert_array_equal(decode(content), np.rint(expected))


def test_a_colour_that_is_transparent_is_black_at_any_depth() -> None:
    """In a PNG without opacity (tRNS)."""
    gray = deep(16)
    gray[5, 5] = 40_000
    colours = np.dstack([gray] * 3)
    for values, colour in ((gray, [40_000]), (colours, [40_000] * 3)):
        chunk = b"tRNS" + struct.pack(f">{len(colour)}H", *colour)
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        content = imagecodecs.png_encode(values)
        at = content.index(b"IDAT") - 4
        found, facts = decode_image(content[:at] + chunk + content[at:], settings())
        expected = np.rint(gray / 257)
        expected[gray == 40_000] = 0
        np.testing.assert_array_equal(found[:, :, 0], expected)
        assert facts.notes == ()


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_opacity_of_any_depth_is_put_on_black(depth: type) -> None:
    most = np.iinfo(depth).max
    pixels = (noise(channels=4) / 255 * most).astype(depth)
    for values in (pixels, pixels[:, :, :2]):
        expected = values[:, :, :-1] * (values[:, :, -1:] / most) * (255 / most)
        photometric = "rgb" if values.shape[2] == 4 else "minisblack"
        extra = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
        for content in (
            imagecodecs.png_encode(np.ascontiguousarray(values)),
            tiff(values, photometric=photometric, **extra),
        ):
            found = decode_image(content, settings())
            assert np.abs(found.pixels - expected).max() <= (1 if depth == np.uint8 else 1.5)
            assert found.facts.notes == ()
            assert found.facts.channels == values.shape[2]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [2, 5, 6, 12])
def test_channels_that_are_no_colours_are_told(channels: int, planar: str, depth: type) -> None:
    factor = 257 if depth == np.uint16 else 1
    pixels = noise(channels=channels)
    stored = pixels.astype(depth) * factor
    if planar == "separate":
        stored = np.ascontiguousarray(np.moveaxis(stored, -1, 0))
    found = decode_image(tiff(stored, planarconfig=planar), settings())
    np.testing.assert_array_equal(
        found.pixels, pixels[:, :, :3] if channels > 2 else np.dstack([pixels[:, :, 0]] * 3)
    )
    assert found.facts.channels == channels
    assert found.facts.notes == ((FIRST_CHANNELS if channels > 2 else ONE_CHANNEL),)


def test_lab_and_cmyk_become_rgb_and_are_told() -> None:
    red = Image.new("RGB", (SIDE, SIDE), (200, 30, 40))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(red, *profiles, outputMode="LAB")
    assert lab is not None
    found = decode_image(encode(lab, "TIFF"), settings())
    assert np.abs(found.pixels.astype(int) - [200, 30, 40]).max() <= 4
    assert found.facts.notes == (OF_LAB,)
    assert decode_image(encode(red.convert("CMYK"), "TIFF"), settings()).facts.notes == (OF_CMYK,)
    with pytest.raises(UnusableImageError, match="colours of the kind SEPARATED in 16 bits"):
        decode(tiff(np.zeros((SIDE, SIDE, 4), np.uint16), photometric="separated"))


def test_crop_keeps_the_square_in_the_centre_and_pad_all() -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96, 0], pixels[:, :, 1] = 200, 100
    square = decode(encode(pixels[:, 32:96]))
    # Antialiasing sees across the cut.
    np.testing.assert_array_equal(decode(encode(pixels), resize="crop")[:, 1:-1], square[:, 1:-1])
    padded = decode(encode(pixels), resize="pad")
    np.testing.assert_array_equal(padded[8:24], decode(encode(pixels))[::2])
    assert padded[:8].max() == padded[24:].max() == 0
    tall = decode(encode(pixels.swapaxes(0, 1)), resize="pad")
    np.testing.assert_array_equal(tall, padded.swapaxes(0, 1))
    # center_crop is of the square that would be there without it.
    for resize in ("crop", "pad", "squash"):
        smooth = encode(Image.fromarray(noise(5, 9)).resize((360, 200), Image.Resampling.BICUBIC))
        whole = Image.fromarray(decode(smooth, side=320, resize=resize))
        steps = whole.crop((80, 80, 240, 240)).resize((320, 320), Image.Resampling.BILINEAR)
        found = decode(smooth, side=320, resize=resize, center_crop=160)
        assert np.abs(found.astype(int) - np.asarray(steps)).mean() < 3


@given(
    *(st.integers(8, 90), st.integers(8, 90), st.sampled_from(["squash", "crop", "pad"])),
    *(st.sampled_from([None, 32, 48]), st.integers(1, 8)),
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_mask_stays_in_register(
    height: int, width: int, resize: str, crop: int | None, orientation: int
) -> None:
    """White on black in the image is defect in the mask, whatever is done to both."""
    defect = np.zeros((height, width), bool)
    defect[: max(4, height // 2), : max(4, width // 3)] = True
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = settings(64, resize=resize, center_crop=crop)
    image = decode_image(encode(defect.astype(np.uint8) * 255, exif=exif), options)
    shown = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](defect)))
    for mask in (encode(defect, exif=exif), encode(shown)):
        found = decode_mask(mask, options, image.facts).pixels
        near = ndimage.binary_dilation(found, iterations=9) != ndimage.binary_erosion(
            found, iterations=9, border_value=1
        )
        assert ((image.pixels[:, :, 0] > 127) == found)[~near].all()
        share = (image.pixels[:, :, 0] / 255).mean()
        assert found.mean() == pytest.approx(share, abs=0.06)


def test_jpeg_of_any_shape_is_in_register_with_its_mask() -> None:
    """A JPEG that is decoded smaller has the geometry of the whole."""
    defect = np.zeros((1001, 333), np.uint8)
    defect[100:700, 50:200] = 255
    for resize in ("squash", "crop", "pad"):
        image = decode_image(encode(defect, "JPEG", quality=95), settings(resize=resize))
        mask = decode_mask(encode(defect), settings(resize=resize), image.facts).pixels
        assert ((image.pixels[:, :, 0] > 127) == mask).mean() > 0.95


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
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "its format is PostScript; "),
        (b"\0\0\0\x18ftypheic" + bytes(50), "its format is HEIC; JPEG, PNG"),
        (b"<?xml version='1.0'?>\n<svg></svg>", "its format is SVG; "),
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


def facts_of(width: int = SIDE, height: int = SIDE, orientation: int = 1) -> ImageFacts:
    return ImageFacts("PNG", width, height, 8, 3, 1, Levels(0, 255), orientation)


def mask_of(defect: Array, side: int = SIDE, **changes: Any) -> Array:
    content = encode(defect.astype(np.uint8) * 255)
    return decode_mask(content, settings(side, **changes), facts_of(*defect.shape[::-1])).pixels


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
        found = decode_mask(content, settings(), facts_of()).pixels
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, defect)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_without_orientation_fits_as_its_sides_tell(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    defect = np.zeros((40, 60), bool)
    defect[5:15, 8:30] = True
    shown = np.ascontiguousarray(UPRIGHT[orientation](defect))
    image = decode_image(encode(defect.astype(np.uint8) * 255, "JPEG", exif=exif), settings())
    expected = mask_of(shown)
    as_shown = decode_mask(encode(shown), settings(), image.facts)
    as_stored = decode_mask(encode(defect), settings(), image.facts)
    own = decode_mask(encode(defect, exif=exif), settings(), image.facts)
    for mask in (as_shown, own):
        np.testing.assert_array_equal(mask.pixels, expected)
    assert own.facts.notes == ()
    if orientation >= 5:  # the sides are swapped
        np.testing.assert_array_equal(as_stored.pixels, expected)
        assert as_shown.facts.notes == as_stored.facts.notes == ()
    else:
        assert as_shown.facts.notes == as_stored.facts.notes == (UNTURNED_MASK,)


def test_a_square_mask_without_orientation_is_taken_as_shown_and_told() -> None:
    defect = np.zeros((40, 40), bool)
    defect[5:15, 8:30] = True
    found = decode_mask(encode(defect), settings(), facts_of(40, 40, orientation=6))
    np.testing.assert_array_equal(found.pixels, mask_of(defect))
    assert found.facts.notes == (UNTURNED_MASK,)
    with pytest.raises(UnusableImageError, match="mask is 40 x 40 pixels, the image 50 x 40"):
        decode_mask(encode(defect), settings(), facts_of(50, 40, orientation=6))


DISC = ((np.mgrid[:256, :256] - 128) ** 2).sum(axis=0) < 80**2


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "soft PNG", "soft float", "soft 16 bits"])
def test_masks_with_soft_edges_do_not_grow(kind: str) -> None:
    if kind.startswith("soft"):
        soft = ndimage.gaussian_filter(DISC.astype(np.float32), 4)
        stored: Array = {"PNG": soft * 255, "float": soft, "16 bits": soft * 65535}[kind[5:]]
        types = {"PNG": np.uint8, "float": np.float32, "16 bits": np.uint16}
        content = tiff(stored.astype(types[kind[5:]]))
    else:
        content = encode(DISC.astype(np.uint8) * 255, kind, quality=50)
    found = decode_mask(content, settings(), facts_of(256, 256))
    assert found.facts.notes == (GRAY_MASK,)
    sharp = mask_of(DISC)
    assert found.pixels.mean() == pytest.approx(sharp.mean(), rel=0.03)
    assert (found.pixels == sharp).mean() > 0.98


def test_masks_of_labels_are_defects_in_all() -> None:
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for label in range(1, 31):
        labels[label, 3:9] = label
    palette = Image.fromarray(labels, "P")
    palette.putpalette(bytes([0, 0, 0] + [5, 0, 9] * 31))
    for content in (
        encode(labels),
        encode(palette),
        encode(labels.astype(np.uint16)),
        tiff(labels.astype(np.uint16) * 1000),
        tiff(labels.astype(np.int32)),
        tiff(labels.astype(np.float32)),
        encode(labels, "JPEG2000"),
    ):
        found = decode_mask(content, settings(), facts_of())
        np.testing.assert_array_equal(found.pixels, labels > 0)
        assert found.facts.notes == ()


def test_masks_of_no_defect_are_empty_in_any_format() -> None:
    nothing = np.zeros((SIDE, SIDE), np.uint8)
    for content in (encode(nothing), encode(nothing, "JPEG"), tiff(nothing.astype(np.float32))):
        found = decode_mask(content, settings(), facts_of())
        assert not found.pixels.any()
        assert found.facts.notes == (NO_DEFECT,)


def test_masks_that_mark_nothing_or_nearly_all_are_told() -> None:
    defect = np.zeros((SIDE, SIDE), np.uint8)
    defect[4:20, 6:30] = 255
    hidden = np.dstack([0 * defect] * 3 + [defect])  # drawn in the opacity alone
    for content, notes in (
        (encode(defect), ()),
        (encode(hidden), (NO_DEFECT,)),
        (encode(255 - defect), (MOST_DEFECT,)),
        (tiff(defect > 0, photometric="miniswhite"), (MOST_DEFECT,)),
        (tiff((defect > 0).astype(np.float32)), ()),
    ):
        assert decode_mask(content, settings(), facts_of()).facts.notes == notes


SMALL = np.zeros((SIDE, SIDE), np.uint8)
SMALL[9:14, 9:15] = 255


@pytest.mark.parametrize("quality", [75, 90, 95])
@pytest.mark.parametrize("holder", ["JPEG", "TIFF", "DICOM", "WEBP"])
def test_lossy_masks_do_not_grow_whatever_holds_them(holder: str, quality: int) -> None:
    """A small defect leaves few values, as labels would."""
    if holder == "TIFF":
        content = encode(SMALL, "TIFF", compression="jpeg", quality=quality)
    elif holder == "DICOM":
        jpeg = encode(SMALL, "JPEG", quality=quality)
        content = dicom(SMALL, uid.JPEGBaseline8Bit, [jpeg])
    else:
        content = encode(SMALL, holder, quality=quality)
    found = decode_mask(content, settings(), facts_of())
    assert abs(int(found.pixels.sum()) - 30) <= 1
    assert found.facts.notes == (GRAY_MASK,)


def test_jpeg_2000_says_whether_it_is_lossy() -> None:
    lossy = encode(SMALL, "JPEG2000", irreversible=True, quality_layers=[4])
    assert open_image(lossy).lossy
    assert not open_image(encode(SMALL, "JPEG2000")).lossy


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
        decode_mask(encode(noise(30, 40, 1)), settings(), facts_of(41, 30))
