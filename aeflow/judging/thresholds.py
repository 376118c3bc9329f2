"""The threshold of a detector, fitted on validation images only."""

import logging
from dataclasses import dataclass

import numpy as np

from aeflow.core.types import NORMAL
from aeflow.judging.metrics import Array, f1_max_threshold, missing_class, threshold_curve
from aeflow.study.settings import ThresholdSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Threshold:
    """A fitted threshold; an image with a score >= value is anomalous.

    Attributes:
        value: None where it cannot be fitted.
        rule: the rule really used, which after a fallback is not the configured one; None where
            there is no value.
        reason: why there is no value, as a sentence.
    """

    value: float | None
    rule: str | None
    reason: str | None = None


def fit_threshold(gt_label: Array, pred_score: Array, threshold: ThresholdSettings) -> Threshold:
    """Fit the threshold on validation labels (N,) and scores (N,).

    f1_max: the observed score with the highest F1; among equals the highest score, that is the
    fewest false alarms. normal_quantile: the quantile of the normals' scores, interpolated
    linearly between neighbours. f1_max falls back to it without validation anomalies.
    """
    normals = pred_score[gt_label == NORMAL]
    if normals.size < 2:
        return Threshold(
            None,
            None,
            f"A threshold needs 2 or more normal validation images, there are {normals.size}: "
            f"raise data.val_fraction.",
        )
    if threshold.rule == "f1_max" and not missing_class(gt_label):
        curve = threshold_curve(gt_label, pred_score)
        return Threshold(f1_max_threshold(curve), "f1_max")
    if (normals.size - 1) * (1 - threshold.quantile) < 1:
        logger.warning(
            "The %s quantile of %d validation normals lies between the two highest scores: it "
            "depends on single images.",
            threshold.quantile,
            normals.size,
        )
    return Threshold(float(np.quantile(normals, threshold.quantile)), "normal_quantile")
