"""From the bytes of an image file to pixels."""

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from aeflow.core.errors import DataError
from aeflow.study.settings import DataSettings

# Those that datasets come in. Others are refused: PostScript, for one, would start a program.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "PPM", "WEBP")
MIN_SIDE = 8
MAX_PIXELS = 100_000_000
# The JPEG decoder may shrink by 2, 4 or 8 on its own, but stays above this many times the
# target, so that the final antialiased resize decides what the image looks like.
DRAFT_MARGIN = 2
# 16-bit values 257 * v are exactly the 8-bit value v.
SIXTEEN_TO_EIGHT = 257

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


class UnusableImageError(DataError):
    """An image cannot be used; the message is the reason."""


def image_size(content: bytes) -> tuple[int, int]:
    """Return width and height of the upright image, pixels, from the file's header alone."""
    image = _open(content)
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def decode_image(content: bytes, settings: DataSettings) -> tuple[Pixels, tuple[int, int]]:
    """Decode an image and squash it to a square.

    The EXIF orientation is honoured. 16-bit gray is scaled from 0..65535 to 0..255, transparency
    is put on black, palettes and CMYK become RGB, gray is repeated three times; of several frames
    the first is used. `center_crop` c cuts the part of the image that is the centre c x c of
    the squashed square, and resizes it in one step, so pixels are interpolated only once.

    Returns:
        uint8 (S, S, 3) RGB, S the `image_size`; and width and height of the file's image, pixels.

    Raises:
        UnusableImageError: not an image of a known format, damaged, too small or too large.
    """
    image = _open(content)
    side = settings.image_size
    stored_size = image.size
    margin = DRAFT_MARGIN * side * side // (settings.center_crop or side)
    image.draft(image.mode, (margin, margin))
    turned = _load(image)
    size = stored_size if turned.size == image.size else stored_size[::-1]
    flat = _eight_bit(turned)
    if settings.grayscale:
        flat = flat.convert("L")
    box = _box(flat.size, settings)
    pixels = np.asarray(flat.resize((side, side), Image.Resampling.BILINEAR, box=box))
    if pixels.ndim == 2:
        pixels = np.broadcast_to(pixels[:, :, None], (side, side, 3))  # no copy
    return pixels, size


def decode_mask(content: bytes, settings: DataSettings, size: tuple[int, int]) -> Pixels:
    """Decode a mask with the geometry of its image; every value above 0 is a defect.

    A pixel is a defect when defects cover at least half of it. A connected region (8 neighbours)
    that would vanish by this rule keeps the one pixel that most of it falls into: small defects
    are never lost, and large ones do not grow.

    Returns:
        uint8 (S, S), 1 on defects.

    Raises:
        UnusableImageError: as for images, or it has not `size`, width and height of the image.
    """
    mask = _load(_open(content))
    if mask.size != size:
        raise UnusableImageError(
            f"its mask is {mask.width} x {mask.height} pixels, the image {size[0]} x {size[1]}"
        )
    # A label such as 1 in a 16-bit mask would not survive the scaling to 8 bits.
    values = np.asarray(mask if _is_deep(mask) else _eight_bit(mask))
    defect = np.any(np.atleast_3d(values) > 0, axis=2)  # (h, w), any channel
    return _shrink_mask(defect, settings.image_size, _box(size, settings))


def _open(content: bytes) -> Image.Image:
    """Read the header and check the size before any pixel is decoded."""
    if not content:
        raise UnusableImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd headers; for large images see MAX_PIXELS
            image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise UnusableImageError(f"not an image of a known kind ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise UnusableImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:
        raise UnusableImageError(f"cannot be opened: {error}") from error
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise UnusableImageError(f"{width} x {height} pixels, a side is below {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise UnusableImageError(f"{width} x {height}, more than {MAX_PIXELS:,} pixels")
    return image


def _load(image: Image.Image) -> Image.Image:
    """Decode the pixels and turn them upright."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make Pillow's decoders raise nearly anything
        raise UnusableImageError(f"cannot be decoded: {error}") from error


def _is_deep(image: Image.Image) -> bool:
    """Tell whether the pixels are integers of more than 8 bits."""
    return image.mode.startswith("I")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image as 8-bit gray (L) or RGB."""
    if _is_deep(image):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise UnusableImageError("its integers need more than 16 bits")
        rounded = (values + SIXTEEN_TO_EIGHT // 2) // SIXTEEN_TO_EIGHT
        return Image.fromarray(rounded.astype(np.uint8))
    if image.mode == "F":
        raise UnusableImageError("its pixels are floating-point numbers of unknown range")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, opaque).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _box(size: tuple[int, int], settings: DataSettings) -> Box:
    """Return left, top, right, bottom of the part to keep, in pixels of an image of `size`."""
    kept = (settings.center_crop or settings.image_size) / settings.image_size
    width, height = size
    left, top = width * (1 - kept) / 2, height * (1 - kept) / 2
    return left, top, width - left, height - top


def _shrink_mask(defect: NDArray[np.bool_], side: int, box: Box) -> Pixels:
    """Resize a boolean mask (h, w) to uint8 (side, side). See `decode_mask`."""
    area = Image.fromarray(defect.astype(np.float32))
    coverage = np.asarray(area.resize((side, side), Image.Resampling.BOX, box=box))
    small = coverage >= 0.5 - 1e-6  # exactly half counts, whatever the rounding

    left, top, right, bottom = box
    regions, count = ndimage.label(defect, structure=np.ones((3, 3)))
    rows, columns = np.nonzero(defect)
    y = np.floor((rows + 0.5 - top) * side / (bottom - top)).astype(np.int64)
    x = np.floor((columns + 0.5 - left) * side / (right - left)).astype(np.int64)
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    region = regions[rows, columns][inside]
    cell = y[inside] * side + x[inside]  # where the centre of each defect pixel falls

    kept = np.zeros(count + 1, dtype=bool)
    kept[region[small.ravel()[cell]]] = True
    lost = ~kept[region]
    pairs, pixels = np.unique(region[lost] * side * side + cell[lost], return_counts=True)
    fullest = dict[int, int]()  # of each lost region; the last one assigned has most pixels
    for index in np.argsort(pixels, kind="stable"):
        owner, place = divmod(int(pairs[index]), side * side)
        fullest[owner] = place
    small.ravel()[list(fullest.values())] = True
    return small.astype(np.uint8)
