"""A score without what the complexity of the image explains.

Likelihoods of flows are high for simple images whatever they show (Serrà et al. 2020, "Input
complexity and out-of-distribution detection with likelihood-based generative models").
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from aeflow.core.errors import DataError

Array = npt.NDArray[np.float64]

# Columns of the score table of method `gradient`: PNG bits per value, mean absolute gradient.
MEASURES = ("compressed_bits", "high_gradient")
_ROUNDING = 1e-9


def without_complexity(
    components: Sequence[Array],
    normal: npt.NDArray[np.bool_],
    image_id: "pd.Series[str]",
    statistics: pd.DataFrame,
) -> list[Array]:
    """Return what complexity does not explain of each component.

    The residuals of its linear regression on the measures and a constant, fitted by least squares
    on validation normals alone. Of a component that the measures explain altogether, as the
    trivial baseline, 0 is left.

    Raises:
        DataError: an image has no complexity, or there are too few validation normals.
    """
    measured = _measures(image_id, statistics)
    needed = len(MEASURES) + 2
    if normal.sum() < needed:
        raise DataError(
            f"The regression on complexity needs {needed} or more validation normals, there are "
            f"{int(normal.sum())}: use more normal images, raise data.val_fraction or set "
            "score.correct to none."
        )
    # Centred: the measures' sizes differ by orders of magnitude, a constant one then counts not.
    centred = measured - measured[normal].mean(axis=0)
    design = np.column_stack([np.ones(len(measured)), centred])
    return [_residual(values, design, normal) for values in components]


def _residual(values: Array, design: Array, normal: npt.NDArray[np.bool_]) -> Array:
    weights = np.linalg.lstsq(design[normal], values[normal], rcond=None)[0]
    residual: Array = values - design @ weights
    # What rounding leaves of a component that the measures explain would rank images by noise.
    nothing_left = np.abs(residual).max() <= _ROUNDING * np.abs(values).max()
    return np.zeros_like(residual) if nothing_left else residual


def _measures(image_id: "pd.Series[str]", statistics: pd.DataFrame) -> Array:
    """Return the measures of images, (N, measures)."""
    absent = [name for name in MEASURES if name not in statistics.columns]
    if absent:
        raise DataError(
            f"The score table of method gradient has no column {', '.join(absent)}: delete it and "
            f"run snakemake."
        )
    found = statistics.set_index("image_id")[list(MEASURES)].reindex(image_id)
    missing = found.isna().any(axis=1).to_numpy()
    if missing.any():
        raise DataError(
            f"Image '{image_id.iloc[int(missing.argmax())]}' has no complexity: score method "
            f"gradient on the prepared images again."
        )
    return found.to_numpy(np.float64)
