"""Why it fails: does a score follow the image's complexity rather than its anomaly?

Likelihoods of flows are high for simple images whatever they show (Serrà et al. 2020, "Input
complexity and out-of-distribution detection with likelihood-based generative models").
"""

from io import BytesIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from aeflow.core.errors import DataError
from aeflow.core.types import ANOMALOUS, NORMAL, Split
from aeflow.data.prepared import Prepared
from aeflow.methods.gradient import mean_absolute_gradient
from aeflow.scoring.combine import Scores, component, components

MEASURES = ("compressed_bits", "mean_gradient")
_GROUPS: tuple[tuple[str, int | None], ...] = (
    ("all", None),
    ("normal", NORMAL),
    ("anomalous", ANOMALOUS),
)
_PNG_LEVEL = 6  # zlib's default: a number that stays, whatever Pillow's becomes
_ROUNDING = 1e-9


def compressed_bits(image: NDArray[np.uint8]) -> float:
    """Return the size of the image's PNG in bits per value, (H, W, 3) uint8.

    PNG predicts each pixel from its neighbours and packs the rest with zlib, one of the
    compressors of Serrà et al. About 0 (one colour) to a little over 8 (noise).
    """
    packed = BytesIO()
    Image.fromarray(np.asarray(image)).save(packed, "png", compress_level=_PNG_LEVEL)
    return 8 * packed.tell() / image.size


def complexity_table(prepared: Prepared) -> pd.DataFrame:
    """Return the complexity of each validation and test image, one in memory at a time.

    Returns:
        image_id, compressed_bits (bits per value) and mean_gradient (gray levels,
        `mean_absolute_gradient`), in the order of a score table.
    """
    rows = prepared.rows(Split.VALIDATION, Split.TEST)
    values = [
        (compressed_bits(image), mean_absolute_gradient(image))
        for image in (prepared.images[row] for row in rows)
    ]
    found = prepared.index.iloc[rows][["image_id"]].reset_index(drop=True)
    found[list(MEASURES)] = np.array(values, dtype=np.float64).reshape(-1, len(MEASURES))
    return found


def complexity_correlations(scores: pd.DataFrame, complexity: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's rank correlation of each component with each measure on test images.

    Within one class it is no effect of the label: a score that follows complexity among normal
    images alone measures complexity.

    Args:
        scores: a score table.
        complexity: Output of `complexity_table`.

    Returns:
        component, measure, images (all, normal, anomalous), n, spearman, reason. Fewer than 3
        images, or equal values, give NaN and a reason; elsewhere it is empty.

    Raises:
        DataError: an image has no complexity, or a component is not finite.
    """
    measured = _measures(scores, complexity)
    test = (scores["split"] == Split.TEST).to_numpy()
    gt_label = scores["gt_label"].to_numpy(int)
    rows = []
    for name in components(scores):
        values = component(scores, name)
        for measure, column in zip(MEASURES, measured.T, strict=True):
            for images, label in _GROUPS:
                kept = test if label is None else test & (gt_label == label)
                spearman, reason = _spearman(values[kept], column[kept])
                rows.append((name, measure, images, int(kept.sum()), spearman, reason))
    return pd.DataFrame(
        rows, columns=["component", "measure", "images", "n", "spearman", "reason"]
    )


def complexity_corrected(scores: pd.DataFrame, complexity: pd.DataFrame) -> pd.DataFrame:
    """Return the score table with what complexity explains taken out of each component.

    Each component becomes the residual of its linear regression on the measures and a constant,
    fitted by least squares on validation normals alone. The result is a score table like any
    other: "higher is more anomalous", to be combined and evaluated as such. A component that the
    measures explain altogether, as the trivial baseline, becomes 0.

    Raises:
        DataError: an image has no complexity, a component is not finite, or there are too few
            validation normals for the regression.
    """
    measured = _measures(scores, complexity)
    normal = (scores["split"] == Split.VALIDATION) & (scores["gt_label"] == NORMAL)
    fitted_on = normal.to_numpy()
    needed = len(MEASURES) + 2
    if fitted_on.sum() < needed:
        raise DataError(
            f"The regression on complexity needs {needed} or more validation normals, there are "
            f"{int(fitted_on.sum())}: raise data.val_fraction."
        )
    # Centred: the measures' sizes differ by orders of magnitude, a constant one then counts not.
    centred = measured - measured[fitted_on].mean(axis=0)
    design = np.column_stack([np.ones(len(scores)), centred])
    corrected = scores.copy()
    for name in components(scores):
        values = component(scores, name)
        weights = np.linalg.lstsq(design[fitted_on], values[fitted_on], rcond=None)[0]
        residual = values - design @ weights
        # What rounding leaves of a component that the measures explain would rank images by noise.
        nothing_left = np.abs(residual).max() <= _ROUNDING * np.abs(values).max()
        corrected[name] = 0.0 if nothing_left else residual
    return corrected


def _measures(scores: pd.DataFrame, complexity: pd.DataFrame) -> Scores:
    """Return the measures of the score table's images, (N, measures)."""
    found = complexity.set_index("image_id")[list(MEASURES)].reindex(scores["image_id"])
    missing = found.isna().any(axis=1).to_numpy()
    if missing.any():
        image_id = scores["image_id"].iloc[int(missing.argmax())]
        raise DataError(
            f"Image '{image_id}' has no complexity: measure the prepared images that were scored."
        )
    return found.to_numpy(np.float64)


def _spearman(first: Scores, second: Scores) -> tuple[float, str]:
    if len(first) < 3:
        return np.nan, f"A rank correlation needs 3 or more images, there are {len(first)}."
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan, "All images have the same value, so there are no ranks."
    return float(stats.spearmanr(first, second).statistic), ""
