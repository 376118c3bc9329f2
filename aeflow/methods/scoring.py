"""The score table of a fitted peer."""

import numpy as np
import pandas as pd

from aeflow.core.types import SCORE_TABLE_COLUMNS, Method, Split
from aeflow.data.prepared import Prepared
from aeflow.methods.method import Peer, batches
from aeflow.scoring.pixel_metrics import PixelMetrics

BATCH = 16


def score_images(
    prepared: Prepared, peer: Peer, method: Method, fpr_limit: float
) -> tuple[pd.DataFrame, dict[str, dict[str, float | None]]]:
    """Score all validation and test images.

    Args:
        prepared: images, masks and index.
        peer: fitted.
        method: name of the score's column and of the map.
        fpr_limit: AUPRO's limit.

    Returns:
        The score table, and the pixel metrics of the test images that have masks (empty where the
        dataset has none, or the method no map).
    """
    rows = prepared.rows(Split.VALIDATION, Split.TEST)
    scores: list[float] = []
    pixel: dict[str, PixelMetrics] = {}
    for batch in batches(rows, BATCH):
        pred_score, anomaly_map = peer.score(batch)
        scores += pred_score.double().tolist()
        if anomaly_map is None or not len(prepared.masks):
            continue
        for row, values in zip(batch, anomaly_map.cpu().numpy(), strict=True):
            mask = prepared.mask(int(row))
            if mask is not None and prepared.index["split"].iloc[row] == Split.TEST:
                pixel.setdefault(method.value, PixelMetrics()).update(values, mask)
    table = prepared.index.iloc[rows][list(SCORE_TABLE_COLUMNS)].reset_index(drop=True)
    table[method.value] = np.array(scores)
    return table, {name: metric.compute(fpr_limit) for name, metric in pixel.items()}
