"""Reading prepared arrays: nothing of a dataset is held in memory but its index."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aeflow.core.errors import DataError
from aeflow.core.files import loading
from aeflow.core.text import unguarded
from aeflow.core.types import ANOMALOUS, INDEX_COLUMNS, NORMAL, Split

UNKNOWN = 255  # all over the mask of an image that has none


@dataclass(frozen=True)
class Prepared:
    """Images, masks and index of one dataset's category."""

    images: NDArray[np.uint8]  # (N, H, W, 3), memory-mapped
    index: pd.DataFrame  # one row per image, in the order of `images`
    # (M, H, W), memory-mapped, of the M anomalous test images: 1 on defects, else 0, `UNKNOWN`
    # where no mask is known; M is 0 where none is.
    masks: NDArray[np.uint8]

    def rows(self, *splits: Split, gt_label: int | None = None) -> NDArray[np.int64]:
        """Return the rows of these splits, in order; only those with `gt_label` if given."""
        chosen = self.index["split"].isin([str(split) for split in splits])
        if gt_label is not None:
            chosen &= self.index["gt_label"] == gt_label
        return np.flatnonzero(chosen)

    @property
    def train(self) -> NDArray[np.int64]:
        """Rows of the training normals."""
        return self.rows(Split.TRAIN, gt_label=NORMAL)

    @property
    def validation_normals(self) -> NDArray[np.int64]:
        """Rows of the validation normals."""
        return self.rows(Split.VALIDATION, gt_label=NORMAL)

    def mask(self, row: int) -> NDArray[np.bool_] | None:
        """Return the mask of an image, (H, W); None where it is not known.

        A normal image of a dataset with masks has an empty one.
        """
        if not len(self.masks):
            return None
        if self.index["gt_label"].iloc[row] != ANOMALOUS:
            return np.zeros(self.images.shape[1:3], dtype=bool)
        judged = self.rows(Split.TEST, gt_label=ANOMALOUS)
        place = int(np.searchsorted(judged, row))
        if place == len(judged) or judged[place] != row or self.masks[place, 0, 0] == UNKNOWN:
            return None
        mask: NDArray[np.bool_] = self.masks[place] > 0
        return mask


def open_prepared(images: Path, index: Path, masks: Path | None = None) -> Prepared:
    """Open what `prepare_images` and `prepare_masks` wrote.

    Raises:
        DataError: a file is missing or of another set.
    """
    pixels, table = open_array(images), read_index(index)
    none = np.empty((0, *pixels.shape[1:3]), np.uint8)
    prepared = Prepared(pixels, table, none if masks is None else open_array(masks))
    judged = len(prepared.rows(Split.TEST, gt_label=ANOMALOUS))
    for path, rows, named in (
        (images, len(prepared.images), {len(table)}),
        (masks, len(prepared.masks), {0, judged}),
    ):
        if rows not in named:
            raise DataError(
                f"{path} has {rows} rows but {index} names {max(named)}: delete its receipt and "
                "run snakemake."
            )
    return prepared


def read_index(path: Path) -> pd.DataFrame:
    """Read what `prepare_images` wrote of its rows; DataError: it is missing, or no index."""
    types = {**dict.fromkeys(INDEX_COLUMNS, "str"), "gt_label": "int64"}
    with loading(path, ValueError, what="no index"):  # pandas' own errors are ValueErrors
        # A defect may be called "NA" or "1".
        table = pd.read_csv(path, dtype=types, keep_default_na=False)
        if tuple(table.columns) != INDEX_COLUMNS:
            raise ValueError("it has other columns")
    texts = [name for name in INDEX_COLUMNS if types[name] == "str"]
    return table.assign(**{name: table[name].map(unguarded) for name in texts})


def open_array(path: Path) -> NDArray[Any]:
    """Memory-map an .npy file, never unpickling; DataError: it is missing or damaged."""
    with loading(path, ValueError, EOFError):
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
