"""The gallery: a few telling test images with reconstruction and maps.

Panels are drawn from it, so that they need neither checkpoint nor images nor torch.
"""

import io
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from aeflow.core.errors import DataError
from aeflow.core.files import atomic_path
from aeflow.core.types import ANOMALOUS, NORMAL, SCORE_TABLE_COLUMNS

SIDE, MAP_SIDE = 128, 64  # pixels of a picture and of a map, at most
QUALITY = 90
# JPEG strips: the pictures of all images one below the other. `difference` is gray, in 1/255.
STRIPS = ("image", "reconstruction", "difference")


def choose_images(test: pd.DataFrame) -> tuple[list[int], list[str]]:
    """Return positions in the table of test scores, and why each was chosen.

    For every score component: the two highest and the two lowest images of each class, and the
    one of each class that is nearest to the middle between the classes' medians. Whatever the
    weighting of the score, its extremes are then among them or close to them; the choice does
    not depend on beta, so an edit of beta needs no new scoring. Nothing where there is no test.
    """
    reasons: dict[int, str] = {}
    if test.empty:
        return [], []
    for name in test.columns.difference(list(SCORE_TABLE_COLUMNS), sort=False):
        values = test[name].to_numpy(dtype=float)
        classes = [np.flatnonzero(test["gt_label"] == label) for label in (NORMAL, ANOMALOUS)]
        present = [rows for rows in classes if len(rows)]
        middle = np.mean([np.median(values[rows]) for rows in present])
        for rows in present:
            order = rows[np.argsort(values[rows], kind="stable")]
            nearest = rows[np.argmin(np.abs(values[rows] - middle))]
            for position in order[:2]:
                reasons.setdefault(int(position), f"lowest {name}")
            for position in order[-2:]:
                reasons.setdefault(int(position), f"highest {name}")
            reasons.setdefault(int(nearest), f"borderline {name}")
    positions = sorted(reasons)
    return positions, [reasons[position] for position in positions]


def shrink(pictures: NDArray[Any], side: int = SIDE) -> NDArray[Any]:
    """Average pictures in bytes, or maps, down to `side`: (K, H, W, ...) -> (K, s, s, ...)."""
    if pictures.shape[1] <= side:
        return pictures
    images = [Image.fromarray(picture) for picture in pictures]
    return np.stack([np.asarray(i.resize((side, side), Image.Resampling.BOX)) for i in images])


def in_bytes(pictures: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pictures in [0, 1] in 0 to 255."""
    return (255 * pictures.astype(np.float32)).round().astype(np.uint8)


def write_gallery(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a gallery of K images; the same arrays give the same bytes.

    Args:
        path: an .npz file.
        arrays: `image` uint8 (K, s, s, 3), `mask` bool (K, s, s), and any further arrays of
            length K. With a decoder `reconstruction` uint8 (K, s, s, 3) and `difference` uint8
            (K, s, s); other maps are `<name>_map`, float (K, h, w) in a resolution of their own.
    """
    packed: dict[str, NDArray[Any]] = {}
    for name, values in arrays.items():
        if name in STRIPS and len(values):  # no JPEG has no rows
            strip, jpeg = Image.fromarray(values.reshape(-1, *values.shape[2:])), io.BytesIO()
            strip.save(jpeg, "JPEG", quality=QUALITY, subsampling=0)
            packed[f"{name}_jpeg"] = np.frombuffer(jpeg.getvalue(), dtype=np.uint8)
        else:
            packed[name] = values.astype(np.float16) if name.endswith("_map") else values
    with atomic_path(path) as part:
        np.savez_compressed(part, allow_pickle=False, **packed)


def read_gallery(path: Path) -> dict[str, NDArray[Any]]:
    """Read a gallery: as written, `difference` and each `<name>_map` as float, (K, s, s).

    Raises:
        DataError: the file is missing, or no gallery.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        for name in [name for name in STRIPS if f"{name}_jpeg" in arrays]:
            strip = np.asarray(Image.open(io.BytesIO(arrays.pop(f"{name}_jpeg").tobytes())))
            arrays[name] = strip.reshape(-1, strip.shape[1], *strip.shape[1:])
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: `dvc pull {path}`, or score again.") from error
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} is no gallery: score the images again.") from error
    if "difference" in arrays:
        arrays["difference"] = arrays["difference"] / 255
    size = (arrays["image"].shape[1],) * 2
    for name in [name for name in arrays if name.endswith("_map")]:
        maps = [Image.fromarray(values) for values in arrays[name].astype(np.float32)]
        large = [np.asarray(each.resize(size, Image.Resampling.BILINEAR)) for each in maps]
        arrays[name] = np.stack(large)
    return arrays
