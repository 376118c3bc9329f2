"""Image metrics from raw scores: exact ranks, no rescaling; a score >= threshold is anomalous.

Every metric is a function of two counts per distinct score, so the same few lines give its value
on the data and on all bootstrap replicates at once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from aeflow.core.types import ANOMALOUS, NORMAL
from aeflow.study.settings import EvaluationSettings

Array = npt.NDArray[Any]

RANKING_METRICS = ("image_auroc", "image_aupr", "oracle_f1")
THRESHOLD_METRICS = ("f1", "accuracy", "sensitivity", "specificity")
TARGETS = (90, 95, 99)  # percent
# Readings of the test's own curve, so by test labels: one rate where the other is at its target.
READINGS = tuple(
    f"oracle_{read}_at_{percent}" for read in ("sensitivity", "specificity") for percent in TARGETS
)
BOOTSTRAP_SEED = 20230501  # one seed for all: intervals are as reproducible as the metrics
FEW = 10  # images of a class: of fewer, a single one is worth more than a tenth of a metric
_BLOCK = 2**20  # bootstrap counts held at once, per array


def missing_class(gt_label: Array) -> str | None:
    """Return which images a metric would lack ("normal images"), None if it lacks none.

    All metrics here need both classes: with one, ranks are undefined and shares mislead.
    """
    if len(gt_label) == 0:
        return "images"
    if not (gt_label == NORMAL).any():
        return "normal images"
    if not (gt_label == ANOMALOUS).any():
        return "anomalous images"
    return None


@dataclass(frozen=True)
class Curve:
    """Counts of the images called anomalous, for each threshold.

    Attributes:
        threshold: (K,) distinct scores, highest first.
        tp: (..., K) anomalous images with a score >= threshold; leading dimensions are bootstrap
            replicates.
        fp: (..., K) normal images with a score >= threshold.
    """

    threshold: Array
    tp: Array
    fp: Array

    @property
    def anomalous(self) -> Array:
        """Number of anomalous images, (...)."""
        return np.asarray(self.tp[..., -1])

    @property
    def normal(self) -> Array:
        """Number of normal images, (...)."""
        return np.asarray(self.fp[..., -1])


def threshold_curve(gt_label: Array, pred_score: Array) -> Curve:
    """Return the curve of labels (N,), 0 normal and 1 anomalous, and scores (N,).

    Raises:
        ValueError: a class is missing (ask `missing_class` first) or a score is not finite.
    """
    if gt_label.shape != pred_score.shape or not np.isfinite(pred_score).all():
        raise ValueError("scores must be finite, one for each label")
    if missing := missing_class(gt_label):
        raise ValueError(f"there are no {missing}")
    negated, level = np.unique(-pred_score, return_inverse=True)
    tp, fp = (
        np.bincount(level[gt_label == label], minlength=len(negated)).cumsum()
        for label in (ANOMALOUS, NORMAL)
    )
    return Curve(-negated, tp, fp)


def ranking_metrics(curve: Curve) -> dict[str, Array]:
    """Return the metrics that need no threshold, each (...).

    image_auroc counts ties half (midranks; Mann and Whitney 1947); image_aupr is the average
    precision, not interpolated; oracle_f1 is the highest F1 of any threshold.
    """
    new_tp, new_fp = np.diff(curve.tp, prepend=0), np.diff(curve.fp, prepend=0)
    # Pairs where the anomalous image has the higher score, doubled to stay whole numbers.
    twice_won = (new_fp * (2 * curve.tp - new_tp)).sum(-1)
    precision = curve.tp / np.maximum(curve.tp + curve.fp, 1)
    return {
        "image_auroc": twice_won / (2 * curve.anomalous * curve.normal),
        "image_aupr": (new_tp * precision).sum(-1) / curve.anomalous,
        "oracle_f1": f1(curve).max(-1),
    }


def f1(curve: Curve) -> Array:
    """Return F1 = 2 TP / (2 TP + FP + FN) at every threshold, (..., K)."""
    return np.asarray(2 * curve.tp / (curve.tp + curve.fp + curve.anomalous[..., None]))


def threshold_metrics(curve: Curve, threshold: float) -> dict[str, Array]:
    """Return the metrics of the labels `score >= threshold`, each (...)."""
    called = np.count_nonzero(curve.threshold >= threshold)
    tp, fp = (
        counts[..., called - 1] if called else np.zeros_like(counts[..., -1])
        for counts in (curve.tp, curve.fp)
    )
    positive, negative = curve.anomalous, curve.normal
    return {
        "f1": np.asarray(2 * tp / (tp + fp + positive)),
        "accuracy": np.asarray((tp + negative - fp) / (positive + negative)),
        "sensitivity": np.asarray(tp / positive),
        "specificity": np.asarray(1 - fp / negative),
    }


def readings(curve: Curve) -> dict[str, Array]:
    """Return the highest sensitivity where the specificity is at least 90, 95, 99 %; the reverse.

    Each (...), under a name of `READINGS`, as far as there are images enough: with fewer than 100
    of a class, 99 % of it are all of it.
    """
    found = {}
    for percent in TARGETS:
        alarms = curve.normal * (100 - percent) // 100  # so many are allowed
        misses = curve.anomalous * (100 - percent) // 100
        if np.all(alarms):
            # The counts only grow, so these thresholds are the first ones.
            allowed = np.count_nonzero(curve.fp <= alarms[..., None], axis=-1, keepdims=True)
            tp = np.take_along_axis(curve.tp, np.maximum(allowed - 1, 0), -1) * (allowed > 0)
            found[f"oracle_sensitivity_at_{percent}"] = tp[..., 0] / curve.anomalous
        if np.all(misses):
            wanted = (curve.anomalous - misses)[..., None]
            first = np.count_nonzero(curve.tp < wanted, axis=-1, keepdims=True)
            fp = np.take_along_axis(curve.fp, first, -1)[..., 0]
            found[f"oracle_specificity_at_{percent}"] = 1 - fp / curve.normal
    return {name: np.asarray(found[name]) for name in READINGS if name in found}


def f1_max_threshold(curve: Curve) -> float:
    """Return the observed score with the highest F1.

    Among equal F1 it is the highest score: the one with the fewest false alarms.
    """
    return float(curve.threshold[f1(curve).argmax(-1)])


def image_auroc(gt_label: Array, pred_score: Array) -> float | None:
    """Return the exact AUROC, None where a class is missing."""
    if missing_class(gt_label):
        return None
    return float(ranking_metrics(threshold_curve(gt_label, pred_score))["image_auroc"])


def auroc_of_columns(gt_label: Array, pred_score: Array) -> Array:
    """Return the exact AUROC of each column of scores (N, K), shape (K,): all ranked at once.

    The rank sum of Mann and Whitney (1947) with midranks; equal to `image_auroc` of each column.
    NaN where a class is missing.
    """
    if missing_class(gt_label):
        return np.full(pred_score.shape[1], np.nan)
    anomalous = gt_label == ANOMALOUS
    m, n = np.count_nonzero(anomalous), np.count_nonzero(~anomalous)
    rank_sum = midranks(pred_score)[anomalous].sum(axis=0)
    # Doubled ranks are whole numbers: one rounding, in the division.
    return np.asarray((2 * rank_sum - m * (m + 1)) / (2 * m * n))


def midranks(values: Array) -> Array:
    """Return the rank of each value in its column of (N, K); equal ones share their mean rank."""
    # Not scipy.stats.rankdata: that import takes longer than all metrics together.
    return pd.DataFrame(values).rank().to_numpy()


def bootstrap_intervals(
    curve: Curve, threshold: float | None, evaluation: EvaluationSettings
) -> dict[str, list[float]]:
    """Return [low, high] of every metric by the stratified percentile bootstrap.

    Normal and anomalous images are drawn with replacement, each among themselves, as many as
    there are (Efron and Tibshirani 1993, ch. 13). The threshold stays as fitted: the intervals
    tell how far the metrics depend on the choice of test images, and on nothing else.
    Without one, the metrics that need it are left out. So is an interval of no width: every draw
    has the same value, as of a score that separates these images without a mistake, or of a single
    image, and that other images would have it too is more than they show.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    levels = len(curve.threshold)
    block = max(1, _BLOCK // levels)
    replicates: dict[str, list[Array]] = {}
    for start in range(0, evaluation.bootstrap_replicates, block):
        rows = min(block, evaluation.bootstrap_replicates - start)
        drawn = Curve(
            curve.threshold,
            *(_resampled(counts, rows, generator) for counts in (curve.tp, curve.fp)),
        )
        values = ranking_metrics(drawn) | readings(drawn)
        if threshold is not None:
            values |= threshold_metrics(drawn, threshold)
        for name, value in values.items():
            replicates.setdefault(name, []).append(value)
    tail = (1 - evaluation.confidence) / 2
    ends = {
        name: np.quantile(np.concatenate(values), [tail, 1 - tail]).tolist()
        for name, values in replicates.items()
    }
    return {name: [low, high] for name, (low, high) in ends.items() if low < high}


def _resampled(counts: Array, rows: int, generator: np.random.Generator) -> Array:
    """Draw the images behind cumulative counts (K,) anew, `rows` times: (rows, K)."""
    levels, images = len(counts), int(counts[-1])
    level_of_image = np.repeat(np.arange(levels), np.diff(counts, prepend=0))
    drawn = level_of_image[generator.integers(images, size=(rows, images))]
    drawn += levels * np.arange(rows)[:, None]  # one range of bins per replicate
    flat = np.bincount(drawn.ravel(), minlength=rows * levels)
    return np.asarray(flat.reshape(rows, levels).cumsum(-1))
