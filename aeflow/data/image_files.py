"""What an image file is, by its bytes alone: format, size, depth, channels, frames, levels.

Pillow decodes what has 8 bits. Deeper levels, which Pillow cuts to 8 bits in colour images, and
channels that it does not know come from readers that keep them.
"""

import logging
import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from aeflow.core.errors import AeflowError, DataError
from aeflow.data.intensity import WHITE, Levels, Used, Values

# Those of Pillow that datasets come in. Others are refused: PostScript, for one, would start a
# program.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "PPM", "WEBP", "JPEG2000")
KINDS = (*FORMATS, "JPEG-LS", "DICOM")
MIN_SIDE = 8
MAX_PIXELS = 100_000_000
MAX_LEVELS = 4 * MAX_PIXELS  # of all channels
MAX_TILE = 2**22  # levels
MAX_TOLD = 200  # characters of what a decoder says
EIGHT_BITS = Levels(0, WHITE)
SIXTEEN_BITS = Levels(0, 2**16 - 1)

FIRST_FRAME = "have several frames (pages), of which the first is used; data.frame chooses another"
FIRST_CHANNELS = "have more channels than colours: only the first three are used"
ONE_CHANNEL = "have two channels: only the first is used"
OF_LAB = "are CIELAB, and become RGB"
OF_CMYK = "are CMYK, and become RGB without their colour profile"
NO_WINDOW = (
    "it has no VOI window, which data.intensity: window asks for; range or percentiles do without"
)
NO_LZW = "a TIFF of this kind compressed by LZW is not read: compress it by Deflate or not at all"
NOT_FINITE = "have pixels that are no finite number: NaN becomes black"

PPM_HEADER = rb"P([56])(?:\s+(?:#[^\n]*\n\s*)*\d+){2}\s+(?:#[^\n]*\n\s*)*(\d+)\s"
JPEG_LS, JPEG_END = 0xF7, b"\xff\xd9"
LZW = 5
LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")  # what Pillow calls such compressions
JPEG_IN_TIFF = (6, 7)
LOSSY_JPEG = (0xC0, 0xC1, 0xC2)
# Of pairs of bytes Pillow keeps what it takes for the high one.
NATIVE_LOW_BYTE = "16B" if sys.byteorder == "little" else "16L"
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Tags of TIFF and EXIF.
ORIENTATION, TIFF_BITS, TIFF_SAMPLES, TIFF_TYPES = 274, 258, 277, 339
UNSIGNED = (1, 4)  # or of no known type, by TIFF_TYPES
PNG_EXIF = (b"eXIf", b"tiff:Orientation", b"Raw profile")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What people have and nothing here reads, by the first bytes.
FOREIGN = {
    rb".{4}ftyp(?:heic|heix|hevc|heim|heis|mif1|msf1)": "HEIC",
    rb".{4}ftyp(?:avif|avis)": "AVIF",
    rb"\x00\x00\x00\x0cJXL |\xff\x0a": "JPEG XL",
    rb"II\xbc\x01": "JPEG XR",
    rb"%PDF": "PDF",
    rb"%!PS": "PostScript",
    rb"8BPS": "Photoshop",
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg": "SVG",
    rb".{344}(?:n\+1|ni1)\x00|\x1f\x8b": "NIfTI or gzip",
    rb"\x76\x2f\x31\x01": "OpenEXR",
    rb"\x89HDF": "HDF5",
    rb"\x93NUMPY": "NumPy",
    rb"PK\x03\x04": "zip",
}


class UnusableImageError(DataError):
    """An image cannot be used; the message is the reason."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file says of itself, and what was measured of its levels."""

    format: str  # one of KINDS
    width: int  # pixels, as shown: with the EXIF orientation
    height: int
    bits: int  # of a level, as its type says; 32 and 64 are floats too
    channels: int  # in the file; a palette is one
    frames: int
    full: Levels | None  # the levels that its type can hold; None: floats
    orientation: int = 1  # EXIF's, 1 to 8
    window: tuple[float, float] | None = None  # centre and width, of DICOM
    used: Used | None = None  # of the frame and channels in use; None: not measured
    notes: tuple[str, ...] = ()  # what was decided, as the end of a sentence "4 images ..."

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def deep(self) -> bool:
        """Whether its levels have more than 8 bits."""
        return self.bits > 8


@dataclass(frozen=True, slots=True)
class Opened:
    """An image file of which nothing but the header was decoded.

    It has either a `picture` of Pillow's with up to 8 bits, or `read`, which returns the levels
    (h, w) or (h, w, channels) as stored, the last channel the opacity if `has_opacity`.
    """

    facts: ImageFacts
    picture: Image.Image | None = None
    read: Callable[[], Values] | None = None
    has_opacity: bool = False
    lossy: bool = False  # so that its levels are not quite those that were drawn


@contextmanager
def unusable(what: str, personal: bool = False) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged bytes into UnusableImageError: `what: why`.

    Without the decoder's words where these may be `personal`, what the file says of someone.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd headers; for large images see MAX_PIXELS
            yield
    except (MemoryError, AeflowError):
        raise
    except Image.DecompressionBombError:
        raise UnusableImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # decoders raise nearly anything
        told = "" if personal else " ".join(str(error).split())[:MAX_TOLD]
        told = re.sub(r" at 0x[0-9a-f]+", "", told)  # another one in each process
        raise UnusableImageError(f"{what}: {told or type(error).__name__}") from (
            None if personal else error  # a traceback would show it
        )


def open_image(content: bytes, frame: int | None = None, window: bool = False) -> Opened:
    """Read the header of an image and check its size before any pixel is decoded.

    Args:
        frame: which frame, counted from 1, where there are several; else it is ignored. None: the
            first, but none of a DICOM file, whose frames are slices or moments.
        window: whether a DICOM file's levels are to be those of its VOI window.

    Raises:
        UnusableImageError: not an image of a known format, damaged, too small or too large; or it
            lacks the frame or, with more than 8 bits, the window.
    """
    opened = _open(content, frame, window)
    if window and opened.facts.deep and opened.facts.format != "DICOM":
        raise UnusableImageError(NO_WINDOW)
    return opened


def _open(content: bytes, frame: int | None, window: bool) -> Opened:
    if not content:
        raise UnusableImageError("the file is empty")
    if content[128:132] == b"DICM" or re.match(rb"[\x02\x08]\x00..(?:[A-Z]{2}|.{2}\0\0)", content):
        # Imported here: it takes as long as all the rest, and few datasets need it.
        from aeflow.data.dicom import open_dicom

        return open_dicom(content, frame, window)
    if content.startswith(b"\xff\xd8\xff"):
        opened = _open_special_jpeg(content)
        if opened is not None:
            return opened
    with unusable("cannot be opened"):
        opened = _open_with_pillow(content, frame)
    if opened is None and content.startswith(TIFF_MAGIC):
        opened = _open_tiff(content, frame)
    if opened is not None:
        return opened
    for magic, kind in FOREIGN.items():
        if re.match(magic, content, re.DOTALL):
            raise UnusableImageError(f"its format is {kind}; {', '.join(KINDS)} are read")
    raise UnusableImageError(f"not an image of a known kind ({', '.join(KINDS)})")


def check_size(width: int, height: int, channels: int = 1) -> None:
    """Raise UnusableImageError if an image is too small or too large."""
    if min(width, height) < MIN_SIDE:
        raise UnusableImageError(f"{width} x {height} pixels, a side is below {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise UnusableImageError(f"{width} x {height}, more than {MAX_PIXELS:,} pixels")
    if width * height * channels > MAX_LEVELS:
        raise UnusableImageError(f"{width} x {height} pixels of {channels} channels, too many")


def chosen_frame(frames: int, frame: int | None) -> tuple[int, tuple[str, ...]]:
    """Return which frame to use, counted from 0, and notes about that.

    Raises:
        UnusableImageError: there are several, and not so many.
    """
    if frames <= 1:
        return 0, ()
    if frame is None:
        return 0, (FIRST_FRAME,)
    if frame > frames:
        raise UnusableImageError(f"it has {frames} frames, data.frame is {frame}")
    return frame - 1, ()


def _open_with_pillow(content: bytes, frame: int | None) -> Opened | None:
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        return None
    check_size(*image.size)
    kind = {"MPO": "JPEG"}.get(str(image.format), str(image.format))
    if kind == "TIFF" and _is_special_tiff(image):
        return _open_tiff(content, frame)
    frames = int(getattr(image, "n_frames", 1))
    chosen, notes = chosen_frame(frames, frame)
    if chosen:
        image.seek(chosen)
        check_size(*image.size)
    orientation = _orientation(image, content)
    width, height = image.size
    if orientation >= 5 and kind != "TIFF":  # Pillow gives the size of a TIFF as shown
        width, height = height, width
    bits, full, read = _deep_reader(content, kind, image)
    if bits > 8 and chosen and read is not None and kind == "PNG":
        raise UnusableImageError("of an animation of 16 bits only the first frame is read")
    channels = 2 if kind == "PNG" and content[25] == 4 else len(image.getbands())
    colour = {"LAB": (OF_LAB,), "CMYK": (OF_CMYK,)}.get(image.mode, ())
    facts = ImageFacts(
        *(kind, width, height, bits, channels, frames, full, orientation),
        notes=(*notes, *colour),
    )
    lossy = _is_lossy(content, kind, image)
    if read is not None:
        return Opened(facts, None, read, image.has_transparency_data, lossy)
    return Opened(facts, image, lossy=lossy)


def _is_lossy(content: bytes, kind: str, image: Image.Image) -> bool:
    """Tell whether levels are not those that were drawn."""
    if kind == "WEBP":
        return b"VP8L" not in content
    if kind == "JPEG2000":
        at = content.find(b"\xff\x52")  # the segment COD, which says that its transform rounds
        return content[at + 13 : at + 14] == b"\0"
    return kind == "JPEG" or (kind == "TIFF" and image.info.get("compression") in LOSSY_TIFF)


def _orientation(image: Image.Image, content: bytes) -> int:
    """Return the EXIF orientation. To know that of a PNG Pillow may have to decode it."""
    if image.format == "PNG" and not any(mark in content for mark in PNG_EXIF):
        return 1
    found = image.getexif().get(ORIENTATION)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image from how it is stored to how it is shown."""
    # Not `exif_transpose`, which writes the file's other tags anew, and fails where one is odd.
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _deep_reader(
    content: bytes, kind: str, image: Image.Image
) -> tuple[int, Levels | None, Callable[[], Values] | None]:
    """Return bits, full range and, if Pillow would lose some of it, a reader of the levels."""
    if kind == "PNG" and content[24] == 16:
        return 16, SIXTEEN_BITS, partial(_codec, "png_decode", content)
    if kind == "JPEG2000":
        at = content.index(b"\xff\x51")  # the segment SIZ
        right, bottom, left, top = struct.unpack_from(">4I", content, at + 6)
        if (right - left, bottom - top) != image.size:
            raise UnusableImageError("its headers give two sizes")
        sign_and_bits = content[at + 40]
        bits = (sign_and_bits & 0x7F) + 1
        if bits > 8:
            low = -(2 ** (bits - 1)) if sign_and_bits & 0x80 else 0
            full = Levels(low, low + 2**bits - 1)
            return bits, full, partial(_codec, "jpeg2k_decode", content)
    header = re.match(PPM_HEADER, content)
    if kind == "PPM" and header is not None and int(header[2]) > WHITE:
        most = int(header[2])
        shape = (image.height, image.width, 3 if header[1] == b"6" else 1)
        read = partial(_packed, content[header.end() :], shape)
        return most.bit_length(), Levels(0, most), read
    if image.mode == "F":
        return 32, None, partial(np.asarray, image)
    if image.mode.startswith("I"):
        return 16, SIXTEEN_BITS, partial(np.asarray, image)
    return 1 if image.mode == "1" else 8, EIGHT_BITS, None


def _packed(content: bytes, shape: tuple[int, ...]) -> Values:
    return np.frombuffer(content, ">u2", int(np.prod(shape))).reshape(shape)


def _codec(name: str, content: bytes) -> Values:
    import imagecodecs

    values: Values = getattr(imagecodecs, name)(content)
    return values


def _open_special_jpeg(content: bytes) -> Opened | None:
    """Open JPEG-LS, lossless JPEG and JPEG of 12 bits; None: any other, which Pillow reads."""
    try:
        coding, bits, height, width, channels = jpeg_header(content)
    except (ValueError, struct.error):
        return None  # Pillow may yet find its way
    if coding in LOSSY_JPEG and bits == 8:
        return None
    check_size(width, height, channels)
    facts = ImageFacts(
        *("JPEG-LS" if coding == JPEG_LS else "JPEG", width, height, bits, channels, 1),
        Levels(0, 2**bits - 1),
    )
    read = partial(decode_special_jpeg, content)
    return Opened(facts, read=read, lossy=coding in LOSSY_JPEG)


def decode_special_jpeg(content: bytes) -> Values:
    """Decode JPEG-LS, lossless JPEG or JPEG of 12 bits, a file or a frame of DICOM's.

    Raises:
        ValueError, RuntimeError: it is damaged.
    """
    # A decoder of JPEG-LS that runs out of bytes searches on for seconds.
    if not content.rstrip(b"\0").endswith(JPEG_END):
        raise ValueError("the stream ends too early")
    is_ls = jpeg_header(content)[0] == JPEG_LS
    return _codec("jpegls_decode" if is_ls else "jpeg_decode", content)


def jpeg_header(content: bytes) -> tuple[int, int, int, int, int]:
    """Return coding (the marker SOF's), bits, height, width and channels of a JPEG stream.

    Raises:
        ValueError, struct.error: it has no frame.
    """
    at = 2
    while at + 4 <= len(content):
        prefix, marker, length = struct.unpack_from(">BBH", content, at)
        if prefix != 0xFF:
            break
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), JPEG_LS):
            return (marker, *struct.unpack_from(">BHHB", content, at + 4))
        else:
            at += 2 + length
    raise ValueError("the JPEG stream has no header of a frame")


def _is_special_tiff(image: Image.Image) -> bool:
    """Tell whether Pillow would drop bits, channels or the sign of a TIFF."""
    tags: Any = getattr(image, "tag_v2", {})
    bits, samples = tags.get(TIFF_BITS, (1,)), tags.get(TIFF_SAMPLES, 1)
    signed = not set(tags.get(TIFF_TYPES, ())) <= set(UNSIGNED)
    return bool(max(bits) > 8 or samples > len(image.getbands()) or signed)


def _open_tiff(content: bytes, frame: int | None) -> Opened:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it tells of each odd tag
    with unusable("cannot be opened"):
        pages = tifffile.TiffFile(BytesIO(content)).pages
        frames = len(pages)
        chosen, notes = chosen_frame(frames, frame)
        page: Any = pages[chosen]
        width, height, channels = page.imagewidth, page.imagelength, page.samplesperpixel
        check_size(width, height, channels)
        # A tile may be larger than the image, though not by any amount that a header names.
        if np.prod(page.chunks, dtype=float) > width * height * channels + MAX_TILE:
            raise UnusableImageError(f"a TIFF with parts of the shape {page.chunks}")
        bits = page.bitspersample
        if page.dtype is None or page.dtype.kind not in "biuf" or page.imagedepth > 1:
            raise UnusableImageError(
                f"a TIFF of {page.imagedepth} x {bits} bits, type {page.dtype}"
            )
        colours = tifffile.PHOTOMETRIC(page.photometric).name
        if colours not in ("MINISWHITE", "MINISBLACK", "RGB"):
            raise UnusableImageError(f"a TIFF with colours of the kind {colours} in {bits} bits")
        tag = page.tags.get(ORIENTATION)
        orientation = int(tag.value) if tag is not None and tag.value in TURNS else 1
        if orientation >= 5:
            width, height = height, width
        full = _full(page.dtype.kind, bits)
        facts = ImageFacts(
            *("TIFF", width, height, bits, channels, frames, full, orientation), notes=notes
        )
        extra = page.extrasamples
        has_opacity = channels in (2, 4) and len(extra) == 1 and int(extra[0]) in (1, 2)
        inverted = colours == "MINISWHITE"
        values, axes = page.asarray, page.axes
        if page.compression == LZW:
            if channels > 1 and (channels not in (3, 4) or axes != "YXS"):
                raise UnusableImageError(NO_LZW)
            values = partial(_lzw_levels, content, chosen, orientation)
        read = partial(_tiff_levels, values, axes, full if inverted else None)
        lossy = page.compression in JPEG_IN_TIFF
        return Opened(facts, None, read, has_opacity, lossy)


def _full(kind: str, bits: int) -> Levels | None:
    """Return the range of a TIFF's type; deep integers, negative or large, count as 16 bits.

    Few of those use it all. Where one does, `data.intensity: full` cannot be used.
    """
    if kind == "f":
        return None
    if bits > (8 if kind == "i" else 16):
        return SIXTEEN_BITS
    least = -(2 ** (bits - 1)) if kind == "i" else 0
    return Levels(least, least + 2**bits - 1)


def _tiff_levels(read: Callable[[], Values], axes: str, inverted: Levels | None) -> Values:
    values = read()
    if "S" in axes:
        values = np.moveaxis(values, axes.index("S"), -1)
    if values.ndim not in (2, 3):
        raise UnusableImageError(f"a TIFF with the axes {axes}")
    return values if inverted is None else invert(values, inverted)


def _lzw_levels(content: bytes, frame: int, orientation: int) -> Values:
    """Return the levels of a TIFF compressed by LZW, by Pillow's libtiff.

    On damaged bytes the decoder of imagecodecs reads memory that is not its own.
    """
    halves = []
    for unpacked in ("16N", NATIVE_LOW_BYTE):
        try:
            image: Any = Image.open(BytesIO(content), formats=("TIFF",))
        except UnidentifiedImageError:
            raise UnusableImageError(NO_LZW) from None
        image.seek(frame)
        colour = image.mode in ("RGB", "RGBA")
        if colour:
            unpacked = f"{image.mode};{unpacked}"
            image.tile = [t._replace(args=(unpacked, *t.args[1:])) for t in image.tile]
        image.load()  # turns it as well
        back = {6: 8, 8: 6}.get(orientation, orientation)
        values: Values = np.asarray(upright(image, back))
        if not colour:
            return values
        halves.append(values.astype(np.uint16))
    return halves[0] * 256 + halves[1]


def invert(values: Values, full: Levels) -> Values:
    """Return levels of which the lowest is white as such of which it is black."""
    whole = values.dtype.kind in "biu"
    inverted: Values = full.low + full.high - values.astype(np.int64 if whole else np.float64)
    return inverted.astype(np.int64) if whole else inverted
