"""The threshold of a detector, fitted on validation images only, and when not to trust it."""

import math
from dataclasses import dataclass

import numpy as np

from aeflow.core.types import NORMAL
from aeflow.judging.metrics import FEW, Array, f1_max_threshold, missing_class, threshold_curve
from aeflow.study.settings import ThresholdSettings

_FAR, _LEVEL = 0.1, 0.001  # of `unlike_validation`


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

    sensitivity: the highest observed score that finds this share of the anomalous images.
    f1_max: the observed score with the highest F1; among equals the highest score, that is the
    fewest false alarms. normal_quantile: the quantile of the normals' scores, interpolated
    linearly between neighbours. f1_max falls back to it without validation anomalies.
    """
    normals = pred_score[gt_label == NORMAL]
    if normals.size == 0:
        return Threshold(
            reason="A threshold needs normal validation images, there are none: raise "
            "data.val_fraction."
        )
    if threshold.rule == "sensitivity":
        anomalous = np.sort(pred_score[gt_label != NORMAL])[::-1]
        if not anomalous.size:
            return Threshold(
                reason="A threshold of a sensitivity needs anomalous validation images, there are "
                "none: choose a specificity (normal_quantile)."
            )
        found = math.ceil(threshold.sensitivity * anomalous.size - 1e-9)
        few = math.ceil(1 / (1 - threshold.sensitivity) - 1e-9)
        warning = None
        if anomalous.size < few:
            warning = (
                f"The threshold finds {threshold.sensitivity:g} of {anomalous.size} anomalous "
                f"validation images, so it depends on single images: that takes {few} or more."
            )
        return Threshold(float(anomalous[found - 1]), "sensitivity", warning=warning)
    if threshold.rule == "f1_max" and not missing_class(gt_label):
        curve, warning = threshold_curve(gt_label, pred_score), None
        if min(normals.size, gt_label.size - normals.size) < FEW:
            warning = (
                f"The threshold has the highest F1 on {normals.size} normal and "
                f"{gt_label.size - normals.size} anomalous validation images: with fewer than "
                f"{FEW} of a class it depends on single images. Use more images, or set "
                f"threshold.rule to normal_quantile."
            )
        return Threshold(f1_max_threshold(curve), "f1_max", warning=warning)
    warning = None
    # Of fewer, the quantile lies between the two highest; 1e-9: 1 - 0.9 is not quite a tenth.
    needed = 1 + math.ceil(1 / (1 - threshold.quantile) - 1e-9)
    if normals.size < needed:
        warning = (
            f"The threshold is the {threshold.quantile} quantile of {normals.size} validation "
            f"normal{'s' * (normals.size > 1)}, so it depends on single images: that takes "
            f"{needed} or more. Use more normal images, or raise data.val_fraction."
        )
    value = float(np.quantile(normals, threshold.quantile))
    return Threshold(value, "normal_quantile", warning=warning)


def unlike_validation(validation: Array, test: Array, threshold: float) -> str | None:
    """Return a sentence where a threshold calls far more test normals anomalous than it should.

    Far more: a share that is higher by a tenth or more than that of the validation normals, and by
    more than chance allows (p < 0.001). Were test and validation normals drawn alike, the share of
    all normals above the r-th smallest of n validation scores would be a Beta(n - r + 1, r), so
    the number of test normals above it is a beta-binomial one. This knows that the threshold too
    depends on few images, as a binomial test of the quantile does not. It is a warning about the
    test: nothing is chosen by it.

    Args:
        validation: (N,) scores of the validation normals.
        test: (M,) scores of the test normals.
    """
    called, alarms = int((validation >= threshold).sum()), int((test >= threshold).sum())
    below = validation.size - called
    if not below or not test.size or alarms / test.size - called / validation.size < _FAR:
        return None
    if _beta_binomial_tail(alarms, test.size, called + 1, below) >= _LEVEL:
        return None
    return (
        f"Of {test.size} test normals {alarms} are at or above the threshold, of "
        f"{validation.size} validation normals {called}: more false alarms than chance allows, so "
        "validation is unlike the test. Are images of one part or patient in both training and "
        "validation? Say which belong together (groups), or validate on images that were taken as "
        "the test's were."
    )


def _beta_binomial_tail(k: int, n: int, a: int, b: int) -> float:
    """Return P(K >= k) of n draws whose probability is a Beta(a, b)."""

    def log_beta(x: int, y: int) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    return math.fsum(
        math.exp(log_beta(j + a, n - j + b) - log_beta(a, b) - log_beta(j + 1, n - j + 1))
        / (n + 1)
        for j in range(k, n + 1)
    )
