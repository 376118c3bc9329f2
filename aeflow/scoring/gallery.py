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

SIDE = 128  # pixels of a picture
QUALITY = 90
# JPEG strips: the pictures of all images one below the other. `difference` is gray, in 1/255.
STRIPS = ("image", "reconstruction", "difference")


def choose_images(test: pd.DataFrame) -> tuple[list[int], list[str]]:
    """Return positions in the table of test scores, and why each was chosen.

    For every score component: the two highest and the two lowest images of each class, and the
    one of each class that is nearest to the middle between the classes' medians. Whatever the
    weighting of the score, its extremes are then among them or close to them; the choice does
    not depend on beta, so an edit of beta needs no new scoring.
    """
    reasons: dict[int, str] = {}
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


def write_gallery(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a gallery of K images.

    Args:
        path: an .npz file.
        arrays: `image` uint8 (K, s, s, 3), `mask` bool (K, s, s), and any further arrays of
            length K. With a decoder `reconstruction` uint8 (K, s, s, 3) and `difference` uint8
            (K, s, s), with a flow `flow_map` float (K, h, w) in the flow's own resolution.
    """
    packed = dict(arrays)
    for name in packed.keys() & set(STRIPS):
        pictures = packed.pop(name)
        strip = Image.fromarray(pictures.reshape(-1, *pictures.shape[2:]))
        jpeg = io.BytesIO()
        strip.save(jpeg, "JPEG", quality=QUALITY, subsampling=0)
        packed[f"{name}_jpeg"] = np.frombuffer(jpeg.getvalue(), dtype=np.uint8)
    if "flow_map" in packed:
        packed["flow_map"] = packed["flow_map"].astype(np.float16)
    with atomic_path(path) as part:
        np.savez_compressed(part, allow_pickle=False, **packed)


def read_gallery(path: Path) -> dict[str, NDArray[Any]]:
    """Read a gallery: as written, `difference` and `flow_map` as float, both (K, s, s).

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
    if "flow_map" in arrays:
        side = arrays["image"].shape[1]
        arrays["flow_map"] = np.stack([_enlarge(values, side) for values in arrays["flow_map"]])
    return arrays


def _enlarge(values: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Return a map (h, w), bilinear to (side, side)."""
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
