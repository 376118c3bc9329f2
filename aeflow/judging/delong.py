"""Is the difference between two AUROCs real? DeLong's test, paired, and Holm's correction.

AUROC is the mean of structural components: V10 of an anomalous image is the share of normal images
below it (ties half), V01 of a normal one the share of anomalous images above it. Its covariance
between scores is cov(V10) / m + cov(V01) / n for m anomalous and n normal images (DeLong, DeLong
and Clarke-Pearson 1988). Midranks give the components in O(N log N) (Sun and Xu 2014).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aeflow.core.types import ANOMALOUS
from aeflow.judging.metrics import FEW, Array, auroc_of_columns, midranks, missing_class
from aeflow.judging.over_seeds import CONFIDENCE, t_interval


@dataclass(frozen=True)
class Comparison:
    """AUROC of a first and a second score on the same images, and their difference.

    Attributes:
        first: AUROC, mean over seeds; None where a class is missing.
        difference: first - second.
        standard_error: of the difference, over draws of test images.
        low, high: ends of the 95 % normal interval of the difference, cut at -1 and 1.
        p_value: two-sided, not corrected (`holm`).
        reason: why there is no standard error, interval and test, as a sentence; else None.
    """

    first: float | None = None
    second: float | None = None
    difference: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    z: float | None = None
    p_value: float | None = None
    reason: str | None = None


def compare_aurocs(gt_label: Array, first: Array, second: Array) -> Comparison:
    """Test whether two scores have the same AUROC, on the same images.

    Several seeds: give their scores as columns. The hypothesis is then about what the tables
    show, the mean over seeds of the AUROC: a linear contrast of correlated AUROCs, which DeLong
    et al. (1988) test alike. Each image counts once, however many seeds there are. The usual ways
    are not sound: the p-values of single seeds share their test images, so they are no
    independent tests, and to report the smallest is to choose; pooling the seeds' images counts
    each several times; the mean score of the seeds is another detector, an ensemble, with another
    AUROC.

    The test holds the trained models as given and asks about other test images. Whether other
    seeds would differ is the other question: `seed_differences`. It rests on many images: of two
    scores alike, one in eight had p < 0.001 with 2 anomalous and 50 normal images, so there is no
    test with fewer than `FEW` of a class.

    Args:
        first: (N,) scores, or (N, S) of S seeds, higher is more anomalous.
        second: (N,) or (N, T); T need not be S.

    Raises:
        ValueError: a score is not finite, or not one for each label.
    """
    if missing := missing_class(gt_label):
        return Comparison(reason=f"There are no {missing}.")
    above, below = _placements(gt_label, np.column_stack([first, second]))
    seeds = 1 if first.ndim == 1 else first.shape[1]
    others = above.shape[1] - seeds
    auroc, other = (float(part.mean() / len(below)) for part in np.split(above, [seeds], axis=1))
    # Whole weights of whole and half numbers: components that are equal stay exactly equal.
    weight = np.repeat([others, -seeds], [seeds, others])
    scale = seeds * others
    wins, losses = above @ weight, below @ weight
    difference = float(wins.mean() / (len(below) * scale))
    if reason := _too_few(gt_label, FEW):
        return Comparison(auroc, other, difference, reason=reason)
    if np.ptp(wins) == 0 and np.ptp(losses) == 0:
        reason = (
            f"The difference is {difference:.3g} for every image, so it has no variance and there "
            f"is nothing to test."
        )
        none = 0.0 if difference == 0 else None  # alike on every image, so on others too
        return Comparison(auroc, other, difference, none, reason=reason)
    error = float(np.sqrt(_covariance(wins, losses)) / scale)
    return _tested(auroc, other, difference, error)


def mean_comparison(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the comparison of the mean AUROC over categories, whose test images are distinct.

    The categories' differences are independent, so their variances add. Without a standard error
    in one of them there is none for the mean; where two methods are alike on every image it is 0.
    """
    for comparison in comparisons:
        if comparison.difference is None:
            return Comparison(reason=comparison.reason)
    found = np.array([(c.first, c.second, c.difference) for c in comparisons], dtype=np.float64)
    first, second, difference = found.mean(axis=0).tolist()
    for comparison in comparisons:
        if comparison.standard_error is None:
            return Comparison(first, second, difference, reason=comparison.reason)
    errors = np.array([c.standard_error for c in comparisons], dtype=np.float64)
    if not errors.any():
        return Comparison(first, second, difference, 0.0, reason=comparisons[0].reason)
    return _tested(first, second, difference, float(np.sqrt(np.square(errors).sum()) / len(found)))


def _tested(first: float, second: float, difference: float, error: float) -> Comparison:
    from scipy import special  # 0.1 s of CPU time, which other users of this file spare

    z, half = difference / error, _half_width(error)
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return Comparison(
        *(first, second, difference, error, low, high, z),
        p_value=float(2 * special.ndtr(-abs(z))),
    )


def _half_width(error: float) -> float:
    from scipy import special  # as above

    return float(special.ndtri((1 + CONFIDENCE) / 2)) * error


@dataclass(frozen=True)
class MeanAuroc:
    """Mean AUROC over seeds, then categories, and how far it depends on the images.

    Attributes:
        auroc: None where a class is missing.
        standard_error: DeLong's, over draws of images; None with fewer than two of a class.
        interval: the 95 % normal interval, cut at 0 and 1. None with fewer than `FEW` images of a
            class, and without any variance: other images than these would have some.
        reason: why there is no standard error, as a sentence; else None.
    """

    auroc: float | None = None
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    reason: str | None = None


def mean_auroc(categories: Sequence[tuple[Array, Array]]) -> MeanAuroc:
    """Return the mean AUROC and its standard error.

    The mean over seeds is a linear contrast of correlated AUROCs (`compare_aurocs`); categories
    have distinct images, so their variances add. Of each, labels (N,) and scores (N, S).
    """
    for gt_label, _ in categories:
        if missing := missing_class(gt_label):
            return MeanAuroc(reason=f"There are no {missing}.")
    aurocs = [auroc_of_columns(gt_label, scores).mean() for gt_label, scores in categories]
    auroc = float(np.mean(aurocs))
    for gt_label, _ in categories:
        if reason := _too_few(gt_label, 2):
            return MeanAuroc(auroc, reason=reason)
    # The variance of a mean of S is the mean of all S x S covariances.
    variances = [auroc_covariance(*category)[1].mean() for category in categories]
    error = float(np.sqrt(np.sum(variances)) / len(variances))
    if not error or any(_too_few(gt_label, FEW) for gt_label, _ in categories):
        return MeanAuroc(auroc, error)
    half = _half_width(error)
    return MeanAuroc(auroc, error, (max(0.0, auroc - half), min(1.0, auroc + half)))


def auroc_covariance(gt_label: Array, pred_score: Array) -> tuple[Array, Array]:
    """Return the AUROC of each column of scores (N, K) and their covariance: (K,) and (K, K).

    Raises:
        ValueError: fewer than two normal or two anomalous images, or a score is not finite.
    """
    if reason := _too_few(gt_label, 2):
        raise ValueError(reason)
    above, below = _placements(gt_label, pred_score)
    return above.mean(axis=0) / len(below), np.atleast_2d(_covariance(above, below))


@dataclass(frozen=True)
class SeedDifferences:
    """Differences of the AUROC seed by seed: what another training may change.

    Attributes:
        difference: first - second of each seed.
        mean: over seeds.
        sd: over seeds (n - 1); None for one seed.
        low, high: ends of Student's 95 % interval of the mean, cut at -1 and 1; None for one seed.
    """

    difference: list[float]
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


def seed_differences(gt_label: Array, first: Array, second: Array) -> SeedDifferences:
    """Compare two scores in each seed, and summarise over seeds as replicates.

    Args:
        first: (N, S) scores of S seeds, or (N, 1) of a method without seeds.
        second: likewise; both have the same seeds, or one has none.

    Raises:
        ValueError: other shapes, a class is missing, or a score is not finite.
    """
    if first.shape[1] != second.shape[1] and 1 not in (first.shape[1], second.shape[1]):
        raise ValueError("both scores must have the same seeds, or one of them a single column")
    if missing := missing_class(gt_label):
        raise ValueError(f"there are no {missing}")
    above, below = _placements(gt_label, np.column_stack([first, second]))
    one, other = np.split(above, [first.shape[1]], axis=1)
    return _replicates((one - other).mean(axis=0) / len(below))


def mean_seed_differences(parts: Sequence[SeedDifferences]) -> SeedDifferences:
    """Return the differences of the mean AUROC over categories, seed by seed."""
    return _replicates(np.mean([part.difference for part in parts], axis=0))


def _replicates(difference: Array) -> SeedDifferences:
    mean = float(difference.mean())
    if len(difference) == 1:
        return SeedDifferences(difference.tolist(), mean)
    sd = float(difference.std(ddof=1))
    low, high = t_interval(mean, sd, len(difference), (-1.0, 1.0))
    return SeedDifferences(difference.tolist(), mean, sd, float(low), float(high))


def holm(p_value: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return p-values corrected for their number, as Holm (1979) steps down.

    The k-th smallest of M is multiplied by M - k + 1; none is smaller than the one before, none
    larger than 1. The family-wise error stays below the level whatever the dependence. NaN (no
    test) stays NaN and does not count in M.

    Args:
        p_value: (M,) of one family of tests, in [0, 1] or NaN.
    """
    p = np.asarray(p_value, dtype=np.float64)
    given = np.flatnonzero(~np.isnan(p))
    order = given[np.argsort(p[given], kind="stable")]
    corrected = np.full(p.shape, np.nan)
    factor = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factor * p[order]), 1)
    return corrected


def _placements(gt_label: Array, pred_score: Array) -> tuple[Array, Array]:
    """Return (m, K) normal images below each anomalous one, (n, K) anomalous above each normal.

    Ties count half, so these are whole or half numbers, exact in floating point.
    """
    if len(gt_label) != len(pred_score) or not np.isfinite(pred_score).all():
        raise ValueError("scores must be finite, one for each label")
    anomalous = gt_label == ANOMALOUS
    rank = midranks(pred_score)
    above = rank[anomalous] - midranks(pred_score[anomalous])
    below = rank[~anomalous] - midranks(pred_score[~anomalous])
    return above, np.count_nonzero(anomalous) - below


def _covariance(above: Array, below: Array) -> Array:
    """Return cov(V10) / m + cov(V01) / n, V10 = above / n and V01 = below / m."""
    m, n = len(above), len(below)
    return np.asarray(np.cov(above.T) / (m * n**2) + np.cov(below.T) / (n * m**2))


def _too_few(gt_label: Array, least: int) -> str | None:
    anomalous = int(np.count_nonzero(gt_label == ANOMALOUS))
    normal = len(gt_label) - anomalous
    if min(anomalous, normal) >= least:
        return None
    return (
        f"DeLong's {'variance' if least == 2 else 'test'} needs {least} normal and {least} "
        f"anomalous images or more, there are {normal} and {anomalous}."
    )
