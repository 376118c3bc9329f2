"""Write config/datasets/demo_textures.zip, the demo dataset: textures with synthetic defects.

Crops of two real photographs, which the scikit-image wheel ships, in the layout of MVTec AD.
Train and test crops come from disjoint parts of a photograph; one of four kinds of defect is
drawn into the anomalous test crops, and the mask marks exactly the pixels it changed.

The same pixels every time; the bytes of the PNGs, and so the splits that follow from them, depend
on the version of Pillow. That is why the zip is in the repository.
"""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import skimage.data
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Gray = NDArray[np.float64]  # (height, width), gray levels 0..255
SIDE = 128  # of a crop, pixels
SPLIT_COLUMN = 300  # train crops lie left of this column of a photograph, test crops right
MIN_CHANGE = 4  # gray levels; what a defect changes by less is left as it was
SEED = 2023
N_TRAIN, N_TEST_NORMAL, N_PER_DEFECT = 120, 30, 10

_ROWS: Gray = np.arange(SIDE, dtype=np.float64)[:, np.newaxis]
_COLUMNS: Gray = np.arange(SIDE, dtype=np.float64)[np.newaxis, :]


@dataclass(frozen=True)
class Texture:
    """How defects are drawn into a photograph."""

    foreign: str  # the photograph that patches are cut from
    contrast: float  # of scratches and stains: a coarse texture hides faint ones


TEXTURES = {
    "brick": Texture(foreign="gravel", contrast=1.2),
    "gravel": Texture(foreign="brick", contrast=2.0),
}


@dataclass(frozen=True)
class Crop:
    """An image of the dataset and how it came about; the arrays are uint8 (SIDE, SIDE)."""

    split: str
    defect: str
    number: int
    corner: tuple[int, int]  # row and column of the crop in the photograph
    clean: NDArray[np.uint8]  # before the defect was drawn
    image: NDArray[np.uint8]

    @property
    def mask(self) -> NDArray[np.uint8]:
        """255 where the defect changed the image, else 0."""
        return np.where(self.image != self.clean, 255, 0).astype(np.uint8)


def write_demo_textures(path: Path) -> None:
    """Write the dataset as a zip archive."""
    files: dict[str, NDArray[np.uint8]] = {}
    for category in TEXTURES:
        for crop in crops(category):
            root, stem = f"demo_textures/{category}", f"{crop.number:03d}"
            files[f"{root}/{crop.split}/{crop.defect}/{stem}.png"] = crop.image
            if crop.defect != "good":
                files[f"{root}/ground_truth/{crop.defect}/{stem}_mask.png"] = crop.mask
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on any system
            archive.writestr(entry, _png(files[name]))


def crops(category: str) -> Iterator[Crop]:
    """Yield the images of a category: train, normal test, then each kind of defect."""
    picture = photograph(category)
    rng = np.random.default_rng([SEED, *category.encode()])
    train, test = (0, SPLIT_COLUMN), (SPLIT_COLUMN, picture.shape[1])
    for number in range(N_TRAIN):
        corner, clean = _cut(picture, train, rng)
        yield Crop("train", "good", number, corner, clean, clean)
    for number in range(N_TEST_NORMAL):
        corner, clean = _cut(picture, test, rng)
        yield Crop("test", "good", number, corner, clean, clean)
    for defect, draw in DEFECTS.items():
        for number in range(N_PER_DEFECT):
            corner, clean = _cut(picture, test, rng)
            drawn = draw(clean.astype(np.float64), TEXTURES[category], rng)
            yield Crop("test", defect, number, corner, clean, _keep_change(clean, drawn))


def photograph(name: str) -> Gray:
    """Read a gray photograph of scikit-image's own package folder; nothing is downloaded."""
    with Image.open(Path(skimage.data.__file__).parent / f"{name}.png") as image:
        return np.asarray(image.convert("L"), dtype=np.float64)


def _cut(
    picture: Gray, columns: tuple[int, int], rng: Generator
) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """Cut a random crop between two columns; vary mirroring, contrast and brightness."""
    row = int(rng.integers(picture.shape[0] - SIDE + 1))
    column = int(rng.integers(columns[0], columns[1] - SIDE + 1))
    crop = picture[row : row + SIDE, column : column + SIDE]
    if rng.random() < 0.5:  # not upside down: the brick photograph has a perspective
        crop = crop[:, ::-1]
    mean = crop.mean()
    crop = (crop - mean) * rng.uniform(0.93, 1.07) + mean + rng.uniform(-8, 8)
    return (row, column), _to_uint8(crop)


def _scratch(crop: Gray, texture: Texture, rng: Generator) -> Gray:
    """Draw a thin polyline, darker or brighter than what it crosses."""
    heading, step = rng.uniform(0, 2 * np.pi), rng.uniform(12, 20)
    headings = heading + np.cumsum(rng.uniform(-0.5, 0.5, 4))
    steps = step * np.stack([np.sin(headings), np.cos(headings)], axis=1)
    points = np.vstack([[0.0, 0.0], np.cumsum(steps, axis=0)])
    points += rng.uniform(48, 80, 2) - points.mean(axis=0)
    distance = np.min([_distance(a, b) for a, b in pairwise(points)], axis=0)
    strength = rng.choice([-1, 1]) * texture.contrast * rng.uniform(45, 65)
    drawn: Gray = crop + strength * np.clip(rng.uniform(1.5, 2.2) - distance, 0, 1)
    return drawn


def _stain(crop: Gray, texture: Texture, rng: Generator) -> Gray:
    """Make a smooth spot darker or brighter."""
    depth = _blob(rng, radius=rng.uniform(16, 24))
    strength = float(rng.choice([-1, 1])) * texture.contrast * rng.uniform(30, 45)
    return crop + strength * np.clip(depth / 5, 0, 1)


def _hole(crop: Gray, texture: Texture, rng: Generator) -> Gray:
    """Fill a small spot with a dark floor that is lit from one side."""
    depth = _blob(rng, radius=rng.uniform(7, 11))
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.sin(angle) * (_ROWS - SIDE / 2) + np.cos(angle) * (_COLUMNS - SIDE / 2)
    slope -= slope[depth > 0].mean()
    floor = np.percentile(crop, 20) - 15 + 1.5 * slope
    return _blend(crop, floor, np.clip(depth, 0, 1))


def _patch(crop: Gray, texture: Texture, rng: Generator) -> Gray:
    """Blend in a piece of the other photograph, with this crop's mean and contrast."""
    foreign = photograph(texture.foreign)
    row, column = rng.integers(np.array(foreign.shape) - SIDE + 1)
    piece = foreign[row : row + SIDE, column : column + SIDE]
    depth = _blob(rng, radius=rng.uniform(12, 18))
    inside = depth > 0
    piece = (piece - piece[inside].mean()) / piece[inside].std()
    piece = piece * crop.std() + crop[inside].mean()
    return _blend(crop, piece, np.clip(depth / 2, 0, 1))


DEFECTS: dict[str, Callable[[Gray, Texture, Generator], Gray]] = {
    "hole": _hole,
    "patch": _patch,
    "scratch": _scratch,
    "stain": _stain,
}


def _keep_change(clean: NDArray[np.uint8], drawn: Gray) -> NDArray[np.uint8]:
    """Keep the largest connected region that changed by MIN_CHANGE or more, and only that.

    A pixel inside it that would have changed by less changes by MIN_CHANGE: no mask has holes.
    """
    levels = _to_uint8(drawn)
    changed = np.abs(levels.astype(int) - clean) >= MIN_CHANGE
    regions, _ = ndimage.label(changed, structure=np.ones((3, 3)))
    largest = 1 + np.argmax(np.bincount(regions[changed])[1:])
    inside = ndimage.binary_fill_holes(regions == largest)
    nudged = np.where(clean < 128, clean + MIN_CHANGE, clean - MIN_CHANGE).astype(np.uint8)
    return np.where(inside, np.where(changed, levels, nudged), clean)


def _blob(rng: Generator, radius: float) -> Gray:
    """Return the depth inside an irregular round outline, pixels; negative outside."""
    centre = rng.uniform(36, SIDE - 36, 2)
    rows, columns = _ROWS - centre[0], _COLUMNS - centre[1]
    angle = np.arctan2(rows, columns)
    outline = np.full_like(angle, radius)
    for waves in (2, 3, 4):
        swing, turn = radius * rng.uniform(0, 0.12), rng.uniform(0, 2 * np.pi)
        outline += swing * np.cos(waves * angle + turn)
    depth: Gray = outline - np.hypot(rows, columns)
    return depth


def _distance(start: Gray, end: Gray) -> Gray:
    """Return every pixel's distance to a line segment, pixels."""
    along = end - start
    rows, columns = _ROWS - start[0], _COLUMNS - start[1]
    share = np.clip((rows * along[0] + columns * along[1]) / (along @ along), 0, 1)
    distance: Gray = np.hypot(rows - share * along[0], columns - share * along[1])
    return distance


def _blend(below: Gray, above: Gray, opacity: Gray) -> Gray:
    return below + opacity * (above - below)


def _to_uint8(levels: Gray) -> NDArray[np.uint8]:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _png(levels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


if __name__ == "__main__":
    write_demo_textures(Path("config/datasets/demo_textures.zip"))
