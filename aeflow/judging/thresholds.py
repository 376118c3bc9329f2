"""The threshold of a detector, fitted on validation images only."""

from dataclasses import dataclass

import numpy as np

from aeflow.core.types import NORMAL
from aeflow.judging.metrics import Array, f1_max_threshold, missing_class, threshold_curve
from aeflow.study.settings import ThresholdSettings


@dataclass(frozen=True)
class Threshold:
    """A fitted threshold; an image with a score >= value is anomalous.

    Attributes:
        value: None where it cannot be fitted.
        rule: the rule really used, which after a fallback is not the configured one; None where
            there is no value.
        reason: why there is no value, as a sentence.
        warning: why the value is not to be trusted, as a sentence.
    """

    value: float | None = None
    rule: str | None = None
    reason: str | None = None
    warning: str | None = None


def fit_threshold(gt_label: Array, pred_score: Array, threshold: ThresholdSettings) -> Threshold:
    """Fit the threshold on validation labels (N,) and scores (N,).

    f1_max: the observed score with the highest F1; among equals the highest score, that is the
    fewest false alarms. normal_quantile: the quantile of the normals' scores, interpolated
    linearly between neighbours. f1_max falls back to it without validation anomalies.
    """
    normals = pred_score[gt_label == NORMAL]
    if normals.size < 2:
        reason = (
            f"A threshold needs 2 or more normal validation images, there are {normals.size}: "
            f"raise data.val_fraction."
        )
        return Threshold(reason=reason)
    if threshold.rule == "f1_max" and not missing_class(gt_label):
        curve = threshold_curve(gt_label, pred_score)
        return Threshold(f1_max_threshold(curve), "f1_max")
    warning = None
    if (normals.size - 1) * (1 - threshold.quantile) < 1:
        warning = (
            f"The {threshold.quantile} quantile of {normals.size} validation normals lies between "
            f"the two highest scores: it depends on single images."
        )
    value = float(np.quantile(normals, threshold.quantile))
    return Threshold(value, "normal_quantile", warning=warning)
