"""The threshold of a detector, fitted on validation images only, and when not to trust it."""

import math
from dataclasses import dataclass

import numpy as np

from aeflow.core.types import NORMAL
from aeflow.judging.metrics import FEW, Array, Curve, f1_max_threshold, threshold_curve
from aeflow.study.settings import ThresholdSettings

_FAR, _LEVEL = 0.1, 0.001  # of `unlike_validation`


@dataclass(frozen=True)
class Threshold:
    """A fitted threshold; an image with a score >= value is anomalous.

    Attributes:
        value: None where it cannot be fitted.
        rule: the rule really used, which after a fallback is not the configured one; None where
            there is no value.
        asked: what the rule asks for, in words.
        normal: how many normal validation images it was fitted to.
        anomalous: how many anomalous ones.
        reason: why there is no value, as a sentence.
        warning: why the value is not to be trusted, as a sentence.
    """

    value: float | None = None
    rule: str | None = None
    asked: str | None = None
    normal: int = 0
    anomalous: int = 0
    reason: str | None = None
    warning: str | None = None


def fit_threshold(gt_label: Array, pred_score: Array, threshold: ThresholdSettings) -> Threshold:
    """Fit the threshold on validation labels (N,) and scores (N,).

    specificity: the quantile of the normals' scores, interpolated linearly between neighbours.
    sensitivity: the highest observed score that finds this share of the anomalous images. f1_max:
    the observed score with the highest F1. youden: that with the highest sensitivity + specificity
    - 1 (Youden 1950). cost: that with the lowest expected cost. Among equals the highest score,
    that is the fewest false alarms. Without validation anomalies f1_max falls back to specificity.
    """
    normals = pred_score[gt_label == NORMAL]
    anomalies = pred_score[gt_label != NORMAL]
    if normals.size == 0:
        return Threshold(
            reason="A threshold needs normal validation images, there are none: raise "
            "data.val_fraction."
        )
    rule = threshold.rule
    if rule == "specificity" or (rule == "f1_max" and not anomalies.size):
        return _specificity(normals, threshold.specificity)
    if not anomalies.size:
        return Threshold(
            reason=f"A threshold by {rule} needs anomalous validation images, there are none: "
            "choose a specificity."
        )
    if rule == "sensitivity":
        return _sensitivity(anomalies, threshold.sensitivity)
    curve, needed = threshold_curve(gt_label, pred_score), (FEW, FEW)
    if rule == "f1_max":
        value, asked = f1_max_threshold(curve), "highest F1"
    else:
        # At odds of 1 the cost is 1 - Youden's index.
        odds, asked = 1.0, "highest SEN + SPE"
        if rule == "cost":
            odds = threshold.cost * threshold.prevalence / (1 - threshold.prevalence)
            asked = (
                f"lowest cost: a miss {threshold.cost:g}, a false alarm 1, "
                f"{100 * threshold.prevalence:g} % anomalous"
            )
        value = _cheapest(curve, odds)
        # Of fewer, a single image of one class weighs as much as all of the other.
        needed = max(FEW, math.floor(1 / odds) + 1), max(FEW, math.floor(odds) + 1)
    warning, called = None, int(np.count_nonzero(pred_score >= value))
    if normals.size < needed[0] or anomalies.size < needed[1]:
        warning = (
            f"The threshold ({asked}) was fitted to {normals.size} normal and {anomalies.size} "
            f"anomalous validation images, so it depends on single images: that takes {needed[0]} "
            f"and {needed[1]} or more. Use more images, or set threshold.rule to specificity."
        )
    elif called in (0, pred_score.size) and np.ptp(pred_score):
        warning = (
            f"The threshold ({asked}) calls {'every' if called else 'no'} validation image "
            "anomalous: by this rule the detector is of no use."
        )
    return Threshold(value, rule, asked, normals.size, anomalies.size, warning=warning)


def _specificity(normals: Array, share: float) -> Threshold:
    value, warning = float(np.quantile(normals, share)), None
    # Of fewer, the quantile lies between the two highest; 1e-9: 1 - 0.9 is not quite a tenth.
    needed = 1 + math.ceil(1 / (1 - share) - 1e-9)
    reached = np.mean(normals < value)
    if normals.size < needed:
        warning = (
            f"The threshold is the {share} quantile of {normals.size} validation "
            f"normal{'s' * (normals.size > 1)}, so it depends on single images: that takes "
            f"{needed} or more. Use more normal images, or raise data.val_fraction."
        )
    elif reached < share - 1 / normals.size:
        warning = (
            f"The threshold is the {share} quantile of {normals.size} validation normals, many of "
            f"which have this very score: the specificity there is {100 * reached:.1f} %."
        )
    asked = f"SPE {100 * share:g} %"
    return Threshold(value, "specificity", asked, normals.size, warning=warning)


def _sensitivity(anomalies: Array, share: float) -> Threshold:
    found = math.ceil(share * anomalies.size - 1e-9)
    needed, warning = math.ceil(1 / (1 - share) - 1e-9), None
    if anomalies.size < needed:
        warning = (
            f"The threshold finds {share:g} of {anomalies.size} anomalous validation images, so "
            f"it depends on single images: that takes {needed} or more."
        )
    value = float(np.sort(anomalies)[::-1][found - 1])
    asked = f"SEN {100 * share:g} %"
    return Threshold(value, "sensitivity", asked, anomalous=anomalies.size, warning=warning)


def _cheapest(curve: Curve, odds: float) -> float:
    """Return the threshold with the lowest odds * (1 - sensitivity) + (1 - specificity).

    That no image is called anomalous may be the cheapest; among equals it comes first.
    """
    tp, fp = (np.concatenate([[0], counts]) for counts in (curve.tp, curve.fp))
    # Whole numbers where odds is one, so that equals are equal.
    cost = odds * (curve.anomalous - tp) * curve.normal + fp * curve.anomalous
    place = int(np.argmax(cost <= cost.min() * (1 + 1e-12)))
    if place == 0:
        return float(np.nextafter(curve.threshold[0], np.inf))
    return float(curve.threshold[place - 1])


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
