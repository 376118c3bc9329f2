"""The trivial baseline: one number per image. Needs neither features nor torch."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aeflow.core.types import SCORE_TABLE_COLUMNS, GradientScore, Split
from aeflow.data.prepared import Prepared

# ITU-R BT.601, as Pillow converts to gray.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def mean_absolute_gradient(image: NDArray[np.uint8]) -> float:
    """Return mean |I(y + 1, x) - I(y, x)| of an image's luma, (H, W, 3) uint8, in gray levels."""
    luma = image @ LUMA
    return float(np.abs(np.diff(luma, axis=0)).mean())


def gradient_scores(prepared: Prepared) -> pd.DataFrame:
    """Return the score table of the validation and test images, one image in memory at a time."""
    rows = prepared.rows(Split.VALIDATION, Split.TEST)
    gradient = np.array([mean_absolute_gradient(prepared.images[row]) for row in rows])
    table = prepared.index.iloc[rows][list(SCORE_TABLE_COLUMNS)].reset_index(drop=True)
    table[GradientScore.HIGH_GRADIENT.value] = gradient
    table[GradientScore.LOW_GRADIENT.value] = -gradient
    return table
