"""From the bytes of an image file to pixels of the size and depth that the encoder gets."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from scipy import ndimage

from aeflow.data.image_files import (
    FIRST_CHANNELS,
    NOT_FINITE,
    ONE_CHANNEL,
    ImageFacts,
    Opened,
    UnusableImageError,
    open_image,
    unusable,
    upright,
)
from aeflow.data.intensity import MEASURED, Levels, Values, measure, to_eight_bit
from aeflow.study.settings import DataSettings

# The JPEG decoder may shrink by 2, 4 or 8 on its own, but stays above this many times the
# target, so that the final antialiased resize decides what the image looks like.
DRAFT_MARGIN = 2
# A mask with more values above 0 is no list of labels but has soft edges.
MOST_LABELS = 32

GRAY_MASK = (
    "have values between black and white (JPEG does that): those of at least half of the largest "
    "count as defects. PNG keeps masks as they are"
)
NO_DEFECT = "mark no pixel, although their images have a defect: levels above 0 mark one"
MOST_DEFECT = "mark more than half of the image: swap black and white if defects are black"
UNTURNED_MASK = (
    "do not say whether they are turned as their images are by EXIF, and their sides do not tell: "
    "taken as drawn on the image as shown. Save the images upright to be sure"
)

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


class Decoded(NamedTuple):
    """An image, or a mask, and what is to be known of it."""

    pixels: Pixels
    facts: ImageFacts


def look_at_image(content: bytes, settings: DataSettings, measured: bool = False) -> ImageFacts:
    """Tell what an image is, by its header alone, or with `measured` by its pixels too.

    Raises:
        UnusableImageError: see `decode_image`.
    """
    opened = open_image(content, settings.frame, settings.intensity == "window")
    if not measured:
        return opened.facts
    if opened.read is not None:
        return _read_levels(opened)[2]
    flat, facts = _load(opened)
    return replace(facts, used=measure(np.asarray(flat)))


def decode_image(content: bytes, settings: DataSettings, levels: Levels | None = None) -> Decoded:
    """Decode an image and make it a square (`data.resize`).

    The EXIF orientation is honoured. More than 8 bits become 8 by `data.intensity`; images of up
    to 8 bits stay as they are. Transparency is put on black; palettes, CMYK and CIELAB become RGB;
    of other channels the first three are used. Gray is repeated three times, since three channels
    are what encoders take. `center_crop` c cuts the part of the image that is the centre c x c of
    the resized square, and resizes it in one step, so pixels are interpolated only once.

    Args:
        levels: `shared_levels`, which `data.intensity` needs if it is `range` or `percentiles`.

    Returns:
        uint8 (S, S, 3) RGB, S the `image_size`; and the facts, `used` among them where the image
        has more than 8 bits.

    Raises:
        UnusableImageError: not an image of a known format, damaged, too small or too large, or
            its levels cannot become 8 bits in this way.
    """
    opened = open_image(content, settings.frame, settings.intensity == "window")
    side = settings.image_size
    if opened.read is None:
        margin = DRAFT_MARGIN * side * side // (settings.center_crop or side)
        flat, facts = _load(opened, margin)
    else:
        flat, facts = _flatten(opened, settings, levels)
    if settings.grayscale:
        flat = flat.convert("L")
    place = _place(facts.size, settings)
    pixels = np.asarray(_resized(flat, place, side, Image.Resampling.BILINEAR))
    if pixels.ndim == 2:
        pixels = np.broadcast_to(pixels[:, :, None], (side, side, 3))  # no copy
    return Decoded(pixels, facts)


def show_image(
    content: bytes, settings: DataSettings, levels: Levels | None, most: int
) -> Image.Image:
    """Return an image in its own proportion, upright, RGB, its longer side at most `most` pixels.

    Its gray levels are those of `decode_image`, which may raise the same.
    """
    opened = open_image(content, settings.frame, settings.intensity == "window")
    flat = _load(opened, most)[0] if opened.read is None else _flatten(opened, settings, levels)[0]
    flat.thumbnail((most, most))
    return flat.convert("RGB")


def on_image(
    anomaly_map: NDArray[np.float32], size: tuple[int, int], settings: DataSettings
) -> NDArray[np.float32]:
    """Return a map of the prepared square, (S, S), as one of the whole image, (height, width).

    Args:
        size: width and height of the image, in which its proportion counts.

    Returns:
        NaN where the square shows nothing of the image.
    """
    place, side = _place(size, settings), settings.image_size
    x, y = place.corner(side)
    shown = Image.fromarray(anomaly_map[y : y + place.height, x : x + place.width])
    left, top, right, bottom = (round(edge) for edge in place.box(*size))
    whole = np.full(size[::-1], np.nan, np.float32)
    fitted = shown.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    whole[top:bottom, left:right] = np.asarray(fitted)
    return whole


def decode_mask(content: bytes, settings: DataSettings, image: ImageFacts) -> Decoded:
    """Decode a mask with the geometry of its image.

    Every value above 0 is a defect, so labels such as 1, 2, 3 are; but in a mask with soft edges
    or of a lossy format, values of at least half of the largest.

    A mask that says how it is to be turned is turned so. Another is turned with its image if only
    then it has the image's size: it was drawn on the pixels as stored. Where both fit, because
    sides are equal or the orientation changes none, it counts as drawn on the image as shown,
    which annotation tools do; the notes tell.

    A pixel is a defect when defects cover at least half of it. A connected region (8 neighbours)
    that would vanish by this rule keeps the one pixel that most of it falls into: small defects
    are never lost, and large ones do not grow.

    Returns:
        uint8 (S, S), 1 on defects; and the facts, whose notes are about the image's mask.

    Raises:
        UnusableImageError: as for images, or it has not the size of the image.
    """
    opened = open_image(content, settings.frame)
    defect, facts = _defect(opened)
    turned = defect.shape[::-1]  # width, height
    if facts.orientation == 1 and image.orientation != 1:
        stored = image.size[::-1] if image.orientation >= 5 else image.size
        if turned == stored != image.size:
            defect = np.asarray(upright(Image.fromarray(defect), image.orientation))
        elif turned == stored:
            facts = replace(facts, notes=(*facts.notes, UNTURNED_MASK))
    height, width = defect.shape
    if (width, height) != image.size:
        raise UnusableImageError(
            f"its mask is {width} x {height} pixels, the image {image.width} x {image.height}"
        )
    share = defect.mean()
    if share == 0 or share > 0.5:
        note = NO_DEFECT if share == 0 else MOST_DEFECT
        facts = replace(facts, notes=(*facts.notes, note))
    place = _place(image.size, settings)
    return Decoded(_shrink_mask(defect, settings.image_size, place), facts)


def _load(opened: Opened, margin: int | None = None) -> tuple[Image.Image, ImageFacts]:
    """Decode what Pillow reads to 8-bit gray (L) or RGB, upright.

    A JPEG may come smaller than it is, but no side below `margin`.
    """
    image, facts = opened.picture, opened.facts
    assert image is not None
    with unusable("cannot be decoded"):
        if margin is not None:
            image.draft(image.mode, (margin, margin))
        image.load()
        turned = image if facts.format == "TIFF" else upright(image, facts.orientation)
        return _eight_bit(turned), facts


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return an image of up to 8 bits as gray (L) or RGB."""
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.has_transparency_data:
        return _on_black(image.convert("RGBA"))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _on_black(image: Image.Image) -> Image.Image:
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image).convert("RGB")


def _read_levels(opened: Opened) -> tuple[Values, Values | None, ImageFacts]:
    """Decode levels (h, w) or (h, w, 3), as stored; opacity (h, w) if it has one; and measure."""
    assert opened.read is not None
    facts, notes, opacity = opened.facts, list(opened.facts.notes), None
    with unusable("cannot be decoded"):
        values = opened.read()
        if values.ndim == 3:
            if opened.has_opacity:
                opacity, values = values[:, :, -1], values[:, :, :-1]
            channels = values.shape[2]
            if channels == 2:
                notes.append(ONE_CHANNEL)
            elif channels > 3:
                notes.append(FIRST_CHANNELS)
            values = values[:, :, :3] if channels >= 3 else values[:, :, 0]
        stored = facts.size[:: -1 if facts.orientation < 5 else 1]  # height, width
        if values.shape[:2] != stored or values.ndim > 3:
            raise ValueError(f"its pixels have the shape {values.shape}, not that of its header")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            notes.append(NOT_FINITE)
        return values, opacity, replace(facts, used=measure(values), notes=tuple(notes))


def _flatten(
    opened: Opened, settings: DataSettings, levels: Levels | None
) -> tuple[Image.Image, ImageFacts]:
    """Decode deep levels to 8-bit gray (L) or RGB, upright."""
    values, opacity, facts = _read_levels(opened)
    assert facts.used is not None
    if facts.deep and settings.intensity in MEASURED:
        if levels is None:
            raise UnusableImageError(
                f"it has {facts.bits} bits, and no training normal has more than 8: "
                f"data.intensity: {settings.intensity} has nothing to measure"
            )
    elif facts.full is None:
        raise UnusableImageError(
            "its pixels are floating-point numbers, of which no type says what is black and "
            "white: set data.intensity to range or percentiles"
        )
    else:
        levels = facts.full
        if facts.used.lowest < levels.low or facts.used.highest > levels.high:
            raise UnusableImageError(
                f"its levels go from {facts.used.lowest:g} to {facts.used.highest:g}, which "
                f"data.intensity: {settings.intensity} cannot take (from {levels.low:g} to "
                f"{levels.high:g}): set it to range or percentiles"
            )
    flat = Image.fromarray(to_eight_bit(values, levels))
    if opacity is not None and facts.full is not None:
        flat = flat.convert("RGBA")
        flat.putalpha(Image.fromarray(to_eight_bit(opacity, facts.full)))
        flat = _on_black(flat)
    return upright(flat, facts.orientation), facts


def _defect(opened: Opened) -> tuple[NDArray[np.bool_], ImageFacts]:
    """Decode a mask (h, w) as its own orientation says; see `decode_mask`."""
    if opened.read is None:
        flat, facts = _load(opened)
        values: NDArray[Any] = np.asarray(flat)
    else:
        levels, opacity, facts = _read_levels(opened)
        values = np.nan_to_num(levels)
        if opacity is not None:
            values = np.where(np.atleast_3d(opacity) > 0, np.atleast_3d(values), 0)
    highest = np.atleast_3d(values).max(axis=2)
    found = np.unique(highest[highest > 0])
    if len(found) > MOST_LABELS or (opened.lossy and len(found) > 1):
        facts = replace(facts, notes=(*facts.notes, GRAY_MASK))
        defect = highest >= found[-1] / 2
    else:
        defect = highest > 0
    if opened.read is not None:
        defect = np.asarray(upright(Image.fromarray(defect), facts.orientation))
    return defect, facts


@dataclass(frozen=True, slots=True)
class _Place:
    """Which part of an image goes where in the square."""

    width_share: float  # of the image's width, around its centre
    height_share: float
    width: int  # in the square, around its centre, pixels
    height: int

    def box(self, width: int, height: int) -> Box:
        """Return left, top, right, bottom of the part, in pixels of an image of this size."""
        left, top = width * (1 - self.width_share) / 2, height * (1 - self.height_share) / 2
        return left, top, width - left, height - top

    def corner(self, side: int) -> tuple[int, int]:
        """Return left and top in the square."""
        return (side - self.width) // 2, (side - self.height) // 2


def _place(size: tuple[int, int], settings: DataSettings) -> _Place:
    """Return the geometry of an image of `size` and of its mask (`data.resize`, center_crop)."""
    side = settings.image_size
    kept = (settings.center_crop or side) / side
    if settings.resize == "squash":
        return _Place(kept, kept, side, side)
    # Of the square, in pixels of the image.
    length = (min if settings.resize == "crop" else max)(size) * kept
    shares = [min(1.0, length / given) for given in size]
    inner = [max(1, round(side * min(1.0, given / length))) for given in size]
    return _Place(shares[0], shares[1], inner[0], inner[1])


def _resized(
    image: Image.Image, place: _Place, side: int, resampling: Image.Resampling
) -> Image.Image:
    """Return the square; an image may come smaller than its file says, in the same proportion."""
    box = place.box(*image.size)
    inner = image.resize((place.width, place.height), resampling, box=box)
    if inner.size == (side, side):
        return inner
    square = Image.new(image.mode, (side, side))  # black
    square.paste(inner, place.corner(side))
    return square


def _shrink_mask(defect: NDArray[np.bool_], side: int, place: _Place) -> Pixels:
    """Resize a boolean mask (h, w) to uint8 (side, side). See `decode_mask`."""
    area = Image.fromarray(defect.astype(np.float32))
    coverage = np.asarray(_resized(area, place, side, Image.Resampling.BOX))
    small = coverage >= 0.5 - 1e-6  # exactly half counts, whatever the rounding

    left, top, right, bottom = place.box(*area.size)
    first_x, first_y = place.corner(side)
    regions, count = ndimage.label(defect, structure=np.ones((3, 3)))
    rows, columns = np.nonzero(defect)
    y = np.floor((rows + 0.5 - top) * place.height / (bottom - top)).astype(np.int64)
    x = np.floor((columns + 0.5 - left) * place.width / (right - left)).astype(np.int64)
    inside = (y >= 0) & (y < place.height) & (x >= 0) & (x < place.width)
    region = regions[rows, columns][inside]
    # Where the centre of each defect pixel falls.
    cell = (first_y + y[inside]) * side + first_x + x[inside]

    kept = np.zeros(count + 1, dtype=bool)
    kept[region[small.ravel()[cell]]] = True
    lost = ~kept[region]
    pairs, pixels = np.unique(region[lost] * side * side + cell[lost], return_counts=True)
    fullest = dict[int, int]()  # of each lost region; the last one assigned has most pixels
    for index in np.argsort(pixels, kind="stable"):
        owner, row_and_column = divmod(int(pairs[index]), side * side)
        fullest[owner] = row_and_column
    small.ravel()[list(fullest.values())] = True
    return small.astype(np.uint8)
