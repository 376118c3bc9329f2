"""DICOM: what levels mean, how they are shown, how they are coded."""

import io
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, uid

from aeflow.data.decode import decode_image, decode_mask, look_at_image
from aeflow.data.image_files import UnusableImageError
from aeflow.data.intensity import Levels
from aeflow.study.settings import DataSettings
from tests.unit.data.dicom_files import dicom
from tests.unit.data.toy_dataset import noise

SIDE = 32
Array = np.ndarray


def settings(**changes: object) -> DataSettings:
    return DataSettings.model_validate({"image_size": SIDE, **changes})


def gray(content: bytes, levels: Levels | None = None, **changes: object) -> Array:
    found = decode_image(content, settings(**changes), levels).pixels
    assert (found == found[:, :, :1]).all()
    return found[:, :, 0]


def twelve() -> Array:
    values = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)
    values[0, 0], values[-1, -1] = 0, 4095
    return values


TWELVE = twelve()
SPREAD = np.rint(TWELVE * (255 / 4095))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("preamble", [True, False])
def test_dicom_is_known_by_its_content(syntax: str, preamble: bool) -> None:
    content = dicom(TWELVE, syntax, bits=12, preamble=preamble)
    found, facts = decode_image(content, settings())
    np.testing.assert_array_equal(found[:, :, 0], SPREAD)
    assert (facts.format, facts.bits, facts.full) == ("DICOM", 12, Levels(0, 4095))
    assert facts.used is not None
    assert (facts.used.lowest, facts.used.highest) == (0, 4095)


def test_big_endian() -> None:
    content = dicom(TWELVE.astype(">u2"), uid.ExplicitVRBigEndian, bits=12)
    np.testing.assert_array_equal(gray(content), SPREAD)


def test_levels_are_in_the_unit_of_the_modality() -> None:
    hounsfield = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    content = dicom(TWELVE, bits=12, **hounsfield)
    facts = decode_image(content, settings()).facts
    assert facts.full == (-1024, 3071)
    assert facts.used is not None
    assert facts.used.highest == 3071
    np.testing.assert_array_equal(gray(content), SPREAD)
    # The same levels stored in another way are the same grays.
    signed = dicom(TWELVE.astype(np.int16) - 1024)
    halves = dicom(TWELVE * 2, bits=13, RescaleSlope=0.5, RescaleIntercept=-1024)
    turned = dicom(4095 - TWELVE, bits=12, RescaleSlope=-1, RescaleIntercept=3071)
    levels = Levels(-200, 1000)
    expected = np.rint(np.clip((TWELVE.astype(int) - 1024 + 200) / 1200, 0, 1) * 255)
    for stored in (content, signed, halves, turned):
        np.testing.assert_array_equal(gray(stored, levels, intensity="range"), expected)


def lut(entries: Array, first: int = 0, depth: int = 16, as_words: bool = False) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, depth]
    data = entries.astype("<u2").tobytes() if as_words else entries.tolist()
    item.add_new(0x00283006, "OW" if as_words else "US", data)
    return item


@pytest.mark.parametrize("as_words", [True, False])
@pytest.mark.parametrize("depth", [8, 12, 16])
def test_lookup_tables(depth: int, as_words: bool) -> None:
    entries = np.rint(np.sqrt(np.arange(4096) / 4095) * (2**depth - 1)).astype(np.uint16)
    expected = np.rint(entries[TWELVE] * (255 / (2**depth - 1)))
    table = lut(entries, depth=depth, as_words=as_words)
    modality = dicom(TWELVE, bits=12, ModalityLUTSequence=[table])
    voi = dicom(TWELVE, bits=12, VOILUTSequence=[table], WindowCenter=9, WindowWidth=9)
    np.testing.assert_array_equal(gray(modality), expected)
    np.testing.assert_array_equal(gray(voi, intensity="window"), expected)
    np.testing.assert_array_equal(gray(voi), SPREAD)
    part = lut(np.array([0, 40, 2**depth - 1]), first=100, depth=depth, as_words=as_words)
    found = gray(dicom(TWELVE, bits=12, VOILUTSequence=[part]), intensity="window")
    assert set(found[TWELVE <= 100]) == {0}
    assert set(found[TWELVE >= 102]) == {255}


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
def test_window_of_the_file(function: str, kind: str) -> None:
    levels = TWELVE.astype(float) - 1024
    shares = {  # PS3.3 C.11.2.1.2 and C.11.2.1.3
        "LINEAR": (levels - (40 - 0.5)) / (400 - 1) + 0.5,
        "LINEAR_EXACT": (levels - 40) / 400 + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (levels - 40) / 400)),
    }[function]
    shown = np.clip(shares, 0, 1)
    content = dicom(
        *(TWELVE,),
        **{"bits": 12, "RescaleSlope": 1, "RescaleIntercept": -1024, "VOILUTFunction": function},
        **{"WindowCenter": [40, 500], "WindowWidth": [400, 2000]},
        PhotometricInterpretation=kind,
    )
    expected = 255 * (shown if kind == "MONOCHROME2" else 1 - shown)
    assert np.abs(gray(content, intensity="window") - expected).max() <= 0.51
    assert look_at_image(content, settings()).window == (40, 400)


def test_window_that_is_not_there() -> None:
    with pytest.raises(UnusableImageError, match=r"no VOI window, .*range or percentiles"):
        gray(dicom(TWELVE, bits=12), intensity="window")
    eight = (TWELVE >> 4).astype(np.uint8)
    np.testing.assert_array_equal(gray(dicom(eight), intensity="window"), eight)
    empty = dicom(TWELVE, bits=12, WindowCenter="", WindowWidth="")
    assert look_at_image(empty, settings()).window is None


@pytest.mark.parametrize("tags", [{}, {"RescaleSlope": 2, "RescaleIntercept": -7}])
def test_monochrome1_is_inverted(tags: dict[str, Any]) -> None:
    inverse = dicom(4095 - TWELVE, bits=12, PhotometricInterpretation="MONOCHROME1", **tags)
    straight = dicom(TWELVE, bits=12, **tags)
    np.testing.assert_array_equal(gray(inverse), gray(straight))
    levels = Levels(100, 3000)
    found = [gray(content, levels, intensity="range") for content in (inverse, straight)]
    np.testing.assert_array_equal(*found)


def test_padding_is_as_black_as_the_darkest_pixel() -> None:
    padded = np.where(TWELVE > 4000, -2000, TWELVE.astype(np.int16) + 10).astype(np.int16)
    content = dicom(padded, PixelPaddingValue=-2000)
    facts = decode_image(content, settings()).facts
    assert facts.used is not None
    assert (facts.used.lowest, facts.used.highest) == (10, TWELVE[TWELVE <= 4000].max() + 10)
    found = gray(content, Levels(10, 4010), intensity="range")
    assert set(found[TWELVE > 4000]) == {0}
    ranged = dicom(padded, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1)
    np.testing.assert_array_equal(gray(ranged, Levels(10, 4010), intensity="range"), found)


def test_bits_above_those_stored_are_of_no_meaning() -> None:
    np.testing.assert_array_equal(gray(dicom(TWELVE | 0xA000, bits=12)), SPREAD)


def test_colours() -> None:
    pixels = noise()
    np.testing.assert_array_equal(decode_image(dicom(pixels), settings()).pixels, pixels)
    ycc = np.array(Image.fromarray(pixels).convert("YCbCr"))
    found = decode_image(dicom(ycc, PhotometricInterpretation="YBR_FULL"), settings()).pixels
    assert np.abs(found.astype(int) - pixels).max() <= 3
    deep = dicom(pixels.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode_image(deep, settings()).pixels, pixels)
    colours = ("Red", "Green", "Blue")
    tables = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in colours}
    ramp = np.arange(256, dtype=np.uint16) * 257
    tables |= {f"{c}PaletteColorLookupTableData": ramp.tobytes() for c in colours}
    palette = dicom(pixels[:, :, 0], PhotometricInterpretation="PALETTE COLOR", **tables)
    np.testing.assert_array_equal(gray(palette), pixels[:, :, 0])


def test_several_frames_are_refused_or_chosen() -> None:
    content = dicom(np.stack([TWELVE, 4095 - TWELVE, TWELVE]), bits=12)
    with pytest.raises(UnusableImageError, match=r"DICOM file of 3 frames: .* set data\.frame"):
        gray(content)
    np.testing.assert_array_equal(gray(content, frame=1), SPREAD)
    np.testing.assert_array_equal(gray(content, frame=2), 255 - SPREAD)
    with pytest.raises(UnusableImageError, match=r"it has 3 frames, data\.frame is 4"):
        gray(content, frame=4)
    assert look_at_image(content, settings(frame=2)).frames == 3


Encoder = Callable[[Array], bytes]
LOSSLESS: dict[str, Encoder] = {
    uid.JPEGLossless: lambda v: imagecodecs.jpeg_encode(v, bitspersample=12, lossless=True),
    uid.JPEGLosslessSV1: lambda v: imagecodecs.jpeg_encode(
        v, bitspersample=12, lossless=True, predictor=1
    ),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEG2000Lossless: lambda v: imagecodecs.jpeg2k_encode(
        v, level=0, bitspersample=12, codecformat="J2K"
    ),
}
LOSSY: dict[str, Encoder] = {
    uid.JPEGExtended12Bit: lambda v: imagecodecs.jpeg_encode(v, level=99, bitspersample=12),
    uid.JPEGLSNearLossless: lambda v: imagecodecs.jpegls_encode(v, level=2),
    uid.JPEG2000: lambda v: imagecodecs.jpeg2k_encode(v, bitspersample=12, codecformat="J2K"),
}


@pytest.mark.parametrize("syntax", [*LOSSLESS, *LOSSY])
def test_compressed_levels(syntax: str) -> None:
    smooth = np.add.outer(np.arange(SIDE) * 60, np.arange(SIDE) * 60).astype(np.uint16)
    coded = (LOSSLESS | LOSSY)[syntax](smooth)
    content = dicom(smooth, syntax, [coded], bits=12)
    expected = smooth * (255 / 4095)
    assert np.abs(gray(content) - expected).max() <= (0.51 if syntax in LOSSLESS else 2)


YBR = "YBR_FULL_422"


def test_compressed_bytes_and_colours() -> None:
    pixels = np.array(Image.fromarray(noise(4, 4)).resize((SIDE, SIDE)))
    for syntax, coded, tags in (
        (
            uid.JPEGBaseline8Bit,
            imagecodecs.jpeg_encode(pixels, level=97),
            {"kind": "YBR_FULL_422"},
        ),
        (uid.JPEGLosslessSV1, imagecodecs.jpeg_encode(pixels, lossless=True, predictor=1), {}),
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode(pixels), {}),
        (uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="J2K"), {}),
    ):
        kind = tags.get("kind", "RGB")
        content = dicom(pixels, syntax, [coded], PhotometricInterpretation=kind)
        found = decode_image(content, settings()).pixels
        limit = 24 if syntax == uid.JPEGBaseline8Bit else 0
        assert np.abs(found.astype(int) - pixels).max() <= limit
    data = dcmread(io.BytesIO(dicom(TWELVE, bits=12)))
    data.compress(uid.RLELossless)
    file = io.BytesIO()
    data.save_as(file)
    np.testing.assert_array_equal(gray(file.getvalue()), SPREAD)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (dicom(TWELVE, uid.MPEG2MPML, [b"1234"]), "transfer syntax MPEG2 Main .* is not read"),
        (dicom(TWELVE, uid.HTJ2KLossless, [b"1234"]), "High-Throughput JPEG 2000 .* is not read"),
        (dicom(TWELVE, uid.DeflatedExplicitVRLittleEndian), "Deflated Explicit .* is not read"),
        (dicom(TWELVE)[:-9], "cannot be decoded"),
        (dicom(TWELVE)[:200], "cannot be opened|lacks|without an image"),
        (dicom(TWELVE, PhotometricInterpretation="HSV"), "1 channels of the kind HSV"),
        (dicom(TWELVE, Rows=None), "header lacks Rows"),
        (dicom(TWELVE, Rows=60000, Columns=60000), "more than 100,000,000 pixels"),
        (
            dicom(TWELVE[:16], uid.JPEGLosslessSV1, [LOSSLESS[uid.JPEGLossless](TWELVE)], bits=12),
            "its stream has 32 x 32 pixels",
        ),
    ],
)
def test_unusable_dicom_files_have_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnusableImageError, match=reason) as caught:
        gray(content)
    assert "\n" not in str(caught.value)


def test_dicom_without_an_image() -> None:
    data = dcmread(io.BytesIO(dicom(TWELVE)))
    del data.PixelData
    data.SOPClassUID = uid.BasicTextSRStorage
    file = io.BytesIO()
    data.save_as(file)
    with pytest.raises(UnusableImageError, match=r"without an image \(Basic Text SR"):
        look_at_image(file.getvalue(), settings())


def test_dicom_as_a_mask() -> None:
    defect = (TWELVE > 2000).astype(np.uint8)
    image = look_at_image(dicom(TWELVE, bits=12), settings())
    np.testing.assert_array_equal(decode_mask(dicom(defect), settings(), image).pixels, defect)


def test_pydicom_is_imported_where_a_dicom_is_read() -> None:
    code = """
import sys, aeflow.data.decode
print({"pydicom", "tifffile", "imagecodecs"} & {*sys.modules})
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout == "set()\n", told.stderr


def lut_of(**elements: Any) -> list[Dataset]:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return [item]


@pytest.mark.filterwarnings("ignore:Invalid value")  # pydicom's, of what the tests write
@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"RescaleSlope": 0}, "its rescale slope is 0, its intercept 0"),
        ({"RescaleSlope": "inf"}, "its rescale slope is inf"),
        ({"RescaleIntercept": "nan"}, "its rescale slope is 1, its intercept nan"),
        ({"HighBit": 15}, "its levels of 12 bits end at bit 15: not read"),
        (
            {"ModalityLUTSequence": lut_of(LUTDescriptor=[4096, 0, 16], LUTData=b"\1\0\2\0")},
            "its LUT has 2 of 4096 entries",
        ),
        (
            {"ModalityLUTSequence": lut_of(LUTDescriptor=[2, 0, 99], LUTData=b"\1\0\2\0")},
            "entries, 99 bits",
        ),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "header cannot be read: AttributeError"),
    ],
)
def test_a_header_that_would_spoil_all_levels_is_refused(
    tags: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnusableImageError, match=reason):
        gray(dicom(TWELVE, bits=12, **tags))


def test_rescale_and_window_of_an_enhanced_file_are_of_the_frame() -> None:
    def group(slope: int) -> Dataset:
        found = Dataset()
        found.PixelValueTransformationSequence = lut_of(RescaleSlope=slope, RescaleIntercept=-9)
        found.FrameVOILUTSequence = lut_of(WindowCenter=2048 * slope, WindowWidth=4097 * slope)
        return found

    content = dicom(
        np.stack([TWELVE, TWELVE]), bits=12, PerFrameFunctionalGroupsSequence=[group(1), group(2)]
    )
    for frame in (1, 2):
        facts = look_at_image(content, settings(frame=frame))
        assert facts.full == Levels(-9, frame * 4095 - 9)
        assert facts.window == (2048 * frame, 4097 * frame)
        assert gray(content, frame=frame, intensity="window").max() in (254, 255)
    shared = dicom(TWELVE, bits=12, SharedFunctionalGroupsSequence=[group(3)])
    assert look_at_image(shared, settings()).full == Levels(-9, 3 * 4095 - 9)


def test_a_large_slope_does_not_wrap() -> None:
    found = decode_image(dicom(TWELVE, bits=12, RescaleSlope=1e16), settings()).pixels
    np.testing.assert_array_equal(found[:, :, 0], SPREAD)


def test_a_palette_of_three_channels_is_a_sentence() -> None:
    tables: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        tables[f"{colour}PaletteColorLookupTableData"] = bytes(range(256))
    content = dicom(noise(), PhotometricInterpretation="PALETTE COLOR", **tables)
    with pytest.raises(UnusableImageError, match="not that of its header"):
        decode_image(content, settings())


def test_a_reason_does_not_depend_on_the_process() -> None:
    content = dicom(TWELVE, uid.JPEG2000Lossless, [b"no image at all"], bits=12)
    with pytest.raises(UnusableImageError, match="cannot identify image file") as caught:
        gray(content)
    assert "0x" not in str(caught.value)


def named() -> bytes:
    """A file of a patient."""
    data = dcmread(io.BytesIO(dicom(TWELVE, bits=12, WindowCenter=9, WindowWidth=9)))
    data.PatientName, data.PatientID = "DOE^JANE", "DOE1"
    data.InstitutionName = data.StudyDescription = "of DOE"
    private = data.private_block(0x0029, "DOE", create=True)
    private.add_new(1, "PN", "DOE^JANE")
    file = io.BytesIO()
    data.save_as(file)
    return file.getvalue()


def test_no_reason_names_a_patient() -> None:
    """Where a length is damaged, a name stands in any element."""
    whole, draw = named(), np.random.default_rng(0)
    pixels = whole.index(b"\xe0\x7f\x10\x00")
    reasons: set[str] = set()
    damaged = [
        whole.replace(b"MONOCHROME2 ", b"DOE^JANE    "),
        whole.replace(b"\x1c\x001.2.840.10008.5.1.4.1.1.1.1\0", b"\x1c\x00DOE^JANE" + bytes(20)),
    ]
    for _ in range(700):
        content = bytearray(whole)
        for _ in range(draw.integers(1, 6)):
            at = draw.integers(128, pixels)
            more = draw.integers(0, 256, draw.integers(0, 5), dtype=np.uint8).tobytes()
            content[at : at + draw.integers(0, 5)] = more
        damaged.append(bytes(content))
    for content in damaged:
        for intensity in ("full", "window"):
            try:
                decode_image(content, settings(intensity=intensity))
            except UnusableImageError as error:
                told = "".join(traceback.format_exception(error))
                reasons |= {line for line in (str(error), told) if "DOE" in line}
    assert reasons == set()
