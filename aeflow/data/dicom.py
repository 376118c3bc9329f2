"""Images of DICOM files: levels in the unit of the modality, or as their VOI window shows them.

Nothing is followed that a file refers to, and nothing but one image is decoded. A header names
patients, and a damaged one anywhere: no message repeats words that the standard does not know.
"""

import logging
import math
from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import (
    DecodeRunner,
    JPEGExtended12BitDecoder,
    JPEGLosslessDecoder,
    JPEGLosslessSV1Decoder,
    JPEGLSLosslessDecoder,
    JPEGLSNearLosslessDecoder,
    get_decoder,
)
from pydicom.pixels.processing import apply_color_lut, apply_windowing
from pydicom.pixels.utils import pixel_array

from aeflow.data.image_files import (
    NO_WINDOW,
    SIXTEEN_BITS,
    ImageFacts,
    Opened,
    UnusableImageError,
    check_size,
    chosen_frame,
    decode_special_jpeg,
    invert,
    jpeg_header,
    unusable,
)
from aeflow.data.intensity import Levels, Values

GRAY = ("MONOCHROME1", "MONOCHROME2")
KINDS = (*GRAY, "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
OTHER_KINDS = ("HSV", "ARGB", "CMYK", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "XYB")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
NEEDED = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored"),
)
LOSSY = (*(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000),)
Step = Callable[[Values], Values]
MOST_WHOLE = 2**30  # a factor, with which 32 bits stay within 64
# A few bytes of it may unpack to any number.
DEFLATED = uid.DeflatedExplicitVRLittleEndian
logging.getLogger("pydicom").setLevel(logging.ERROR)  # it warns of each odd header

# pydicom leaves these to libraries. imagecodecs reads all five, and files of the same codings.
DECODERS = (
    *(JPEGExtended12BitDecoder, JPEGLosslessDecoder, JPEGLosslessSV1Decoder),
    *(JPEGLSLosslessDecoder, JPEGLSNearLosslessDecoder),
)
DECODER_DEPENDENCIES = {decoder.UID: ("imagecodecs",) for decoder in DECODERS}


def is_available(_: str) -> bool:
    """Tell pydicom that its plugin `decode_frame` works."""
    return True


def decode_frame(content: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame for pydicom, which calls this."""
    _, bits, height, width, channels = jpeg_header(content)
    # A stream of another size might take any amount of memory.
    if (height, width, channels) != (runner.rows, runner.columns, runner.samples_per_pixel):
        raise ValueError(f"its stream has {width} x {height} pixels of {channels} channels")
    runner.set_option("bits_allocated", 8 if bits <= 8 else 16)
    runner.set_option("planar_configuration", 0)
    return decode_special_jpeg(content).tobytes()


for decoder in DECODERS:
    decoder.add_plugin("imagecodecs", (__name__, "decode_frame"))


def open_dicom(content: bytes, frame: int | None, window: bool) -> Opened:
    """Read the header of a DICOM file; see `open_image`.

    Levels are those of the modality (rescale, modality LUT), or with `window` those of the first
    VOI window or VOI LUT. In both the lowest is black, MONOCHROME1 too; what the file calls
    padding is as black as the darkest pixel.

    Raises:
        UnusableImageError: it has no image or several, or none that is read here.
    """
    if DEFLATED.encode() in content[:1024]:
        raise UnusableImageError(f"its transfer syntax {DEFLATED.name} is not read")
    with unusable("its DICOM header cannot be read", personal=True):
        data = dcmread(BytesIO(content), force=True)
        return _open(data, frame, window)


def _open(data: Dataset, frame: int | None, window: bool) -> Opened:
    name = next((name for name in PIXELS if name in data), None)
    if name is None:
        what = _uid_name(data.get("SOPClassUID", ""))
        raise UnusableImageError(f"a DICOM file without an image ({what})")
    missing = [name for name in NEEDED if data.get(name) is None]
    if missing:
        raise UnusableImageError(f"its DICOM header lacks {', '.join(missing)}")
    _set_transfer_syntax(data)
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1 and frame is None:
        raise UnusableImageError(
            f"a DICOM file of {frames} frames: give each as a file of its own, or set data.frame"
        )
    chosen, _ = chosen_frame(frames, frame)
    _lift_groups(data, chosen)
    width, height, channels = int(data.Columns), int(data.Rows), int(data.SamplesPerPixel)
    check_size(width, height, channels)
    kind = str(data.PhotometricInterpretation)
    if kind not in KINDS or channels not in (1, 3):
        told = kind if kind in (*KINDS, *OTHER_KINDS) else "that is not known"
        raise UnusableImageError(f"a DICOM file of {channels} channels of the kind {told}")
    steps, full, bits = _meaning(data, name, kind)
    shown = _as_shown(data) if window and kind in GRAY else None
    if shown is not None:
        steps, full = [*steps, shown[0]], shown[1]
    elif window and bits > 8:
        raise UnusableImageError(NO_WINDOW)
    if kind == "MONOCHROME1":
        steps.append(partial(invert, full=full or Levels(0, 0)))
    facts = ImageFacts(
        *("DICOM", width, height, bits, channels, frames, full), window=_window(data)
    )
    read = partial(_levels, data, chosen, steps)
    return Opened(facts, read=read, lossy=data.file_meta.TransferSyntaxUID in LOSSY)


def _lift_groups(data: Dataset, frame: int) -> None:
    """Put what an enhanced file says of all frames, then of this one, where others have it."""
    shared = list(data.get("SharedFunctionalGroupsSequence") or [])
    own = list(data.get("PerFrameFunctionalGroupsSequence") or [])
    for group in (*shared, *own[frame : frame + 1]):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for said in group.get(name) or []:
                data.update(said)


def _set_transfer_syntax(data: Dataset) -> None:
    """Make sure that it says how its pixels are coded, as old files do not, and is readable."""
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    syntax = data.file_meta.TransferSyntaxUID
    try:
        readable = get_decoder(syntax).is_available
    except NotImplementedError:
        readable = False
    if not readable:
        raise UnusableImageError(f"its transfer syntax {_uid_name(syntax)} is not read")


def _uid_name(value: object) -> str:
    """Return the name of a UID of the standard, and nothing else that the file may say."""
    found = uid.UID(str(value))
    return found.name if found.name != found else "of no known kind"


def _meaning(data: Dataset, name: str, kind: str) -> tuple[list[Step], Levels | None, int]:
    """Return the steps from stored numbers to levels, and the range and bits of these."""
    if name != "PixelData":
        return [], None, int(data.BitsAllocated)
    if kind == "PALETTE COLOR":
        bits = int(data.RedPaletteColorLookupTableDescriptor[2])
        return [partial(apply_color_lut, ds=data)], Levels(0, 2**bits - 1), bits
    bits = int(data.BitsStored)
    if (highest := data.get("HighBit", bits - 1)) != bits - 1:  # old files, and damaged ones
        raise UnusableImageError(f"its levels of {bits} bits end at bit {highest}: not read")
    least = -(2 ** (bits - 1)) if data.get("PixelRepresentation") else 0
    full = Levels(least, least + 2**bits - 1)
    if kind not in GRAY:
        return [], full, bits
    if data.get("ModalityLUTSequence"):
        table, first, depth = _table(data, data.ModalityLUTSequence[0])
        return [partial(_look_up, table, first)], Levels(0, 2**depth - 1), depth
    slope, intercept = (
        default if (value := data.get(name)) is None else float(value)
        for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if (slope, intercept) == (1, 0):
        return [], full, bits
    low, high = sorted(slope * level + intercept for level in full)
    if not 0 < high - low < math.inf:
        raise UnusableImageError(f"its rescale slope is {slope:g}, its intercept {intercept:g}")
    return [partial(_rescale, slope, intercept)], Levels(low, high), bits


def _as_shown(data: Dataset) -> tuple[Step, Levels] | None:
    """Return the step from levels to those of the first VOI LUT or window, and their range."""
    if data.get("VOILUTSequence"):
        table, first, depth = _table(data, data.VOILUTSequence[0])
        return partial(_look_up, table, first), Levels(0, 2**depth - 1)
    window = _window(data)
    if window is None:
        return None
    # With these alone pydicom spreads the window over 0..65535, whatever the modality.
    shown = Dataset()
    shown.PhotometricInterpretation = "MONOCHROME2"
    shown.BitsStored, shown.PixelRepresentation = 16, 0
    shown.WindowCenter, shown.WindowWidth = window
    shown.VOILUTFunction = function = str(data.get("VOILUTFunction") or "LINEAR")
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise UnusableImageError("its VOI LUT function is not one of the standard's")
    return partial(apply_windowing, ds=shown), SIXTEEN_BITS


def _window(data: Dataset) -> tuple[float, float] | None:
    """Return centre and width of the first window."""
    found = [data.get(name) for name in ("WindowCenter", "WindowWidth")]
    centre, width = (v[0] if isinstance(v, MultiValue) and v else v for v in found)
    if any(value in (None, "", []) for value in (centre, width)):
        return None
    return float(centre), float(width)


def _table(data: Dataset, item: Dataset) -> tuple[Values, int, int]:
    """Return the entries of a LUT, the level that the first is for, and their bits."""
    entries, first, depth = map(int, item.LUTDescriptor)
    entries = entries or 2**16
    stored = item.LUTData
    if isinstance(stored, bytes):
        order = "<" if data.original_encoding[1] else ">"
        table: Values = np.frombuffer(stored, "u1" if len(stored) == entries else f"{order}u2")
    else:
        table = np.asarray(stored)
    if len(table) < entries or not 1 <= depth <= 16:
        raise UnusableImageError(f"its LUT has {len(table)} of {entries} entries, {depth} bits")
    return table[:entries], first, depth


def _look_up(table: Values, first: int, values: Values) -> Values:
    # Not pydicom's, which counts in the type of the entries: 4096 levels wrap in 8 bits.
    places = np.rint(values).astype(np.int64) - first
    return table[np.clip(places, 0, len(table) - 1)]


def _rescale(slope: float, intercept: float, values: Values) -> Values:
    whole = slope.is_integer() and intercept.is_integer()
    if whole and max(abs(slope), abs(intercept)) < MOST_WHOLE:
        return values.astype(np.int64) * int(slope) + int(intercept)
    return values.astype(np.float64) * slope + intercept


def _levels(data: Dataset, frame: int, steps: list[Step]) -> Values:
    stored: Values = pixel_array(data, index=frame)
    values = stored
    for step in steps:
        values = step(values)
    padding = data.get("PixelPaddingValue")
    if padding is None or values.shape != stored.shape or "FloatPixelData" in data:
        return values
    ends = sorted((padding, data.get("PixelPaddingRangeLimit", padding)))
    padded = (stored >= ends[0]) & (stored <= ends[1])
    if padded.any() and not padded.all():
        values = values.copy()
        values[padded] = values[~padded].min()
    return values
