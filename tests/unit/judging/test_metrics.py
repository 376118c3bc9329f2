"""Image metrics against scikit-learn, scipy, brute force and hand computation."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from aeflow.judging import metrics
from aeflow.judging.metrics import (
    auroc_of_columns,
    bootstrap_intervals,
    f1_max_threshold,
    image_auroc,
    missing_class,
    ranking_metrics,
    readings,
    threshold_curve,
    threshold_metrics,
)
from aeflow.study.settings import EvaluationSettings


def draw(seed, normal=60, anomalous=40, decimals=None, scale=1.0, offset=0.0, shift=1.0):
    """Labels and scores of two shifted normal distributions; few decimals make ties."""
    generator = np.random.default_rng(seed)
    gt_label = generator.permutation(np.repeat([0, 1], [normal, anomalous]))
    pred_score = generator.normal(size=gt_label.size) + shift * gt_label
    if decimals is not None:
        pred_score = pred_score.round(decimals)
    return gt_label, pred_score * scale + offset


SAMPLES = {
    "distinct": draw(0),
    "tied": draw(1, decimals=0),
    "near 300": draw(2, offset=300.0, scale=0.01),
    "tiny": draw(4, scale=1e-12),
    "huge": draw(5, scale=1e30),
    "unbalanced": draw(6, normal=3, anomalous=200, decimals=1),
    "inverted": draw(8, shift=-2.0),
    "constant": (np.array([0, 1, 0, 1, 1]), np.full(5, 0.1)),
}
samples = pytest.mark.parametrize(("gt_label", "pred_score"), SAMPLES.values(), ids=SAMPLES.keys())


@samples
def test_ranking_metrics_equal_scikit_learn(gt_label, pred_score):
    curve = threshold_curve(gt_label, pred_score)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(gt_label, pred_score)
    # scikit-learn ranks float64 scores too, so nothing but rounding may differ.
    assert ranking_metrics(curve) == pytest.approx(
        {
            "image_auroc": sklearn_metrics.roc_auc_score(gt_label, pred_score),
            "image_aupr": sklearn_metrics.average_precision_score(gt_label, pred_score),
            "oracle_f1": max(
                2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True) if p + r
            ),
        },
        abs=1e-13,
    )
    threshold = f1_max_threshold(curve)
    assert threshold in pred_score
    assert threshold_metrics(curve, threshold)["f1"] == ranking_metrics(curve)["oracle_f1"]


@samples
def test_auroc_is_exact(gt_label, pred_score):
    anomalous, normal = pred_score[gt_label == 1], pred_score[gt_label == 0]
    statistic = stats.mannwhitneyu(anomalous, normal).statistic
    auroc = image_auroc(gt_label, pred_score)
    assert auroc == statistic / (anomalous.size * normal.size)
    columns = np.column_stack([pred_score, -pred_score, gt_label, np.full(gt_label.size, 0.1)])
    expected = [auroc, image_auroc(gt_label, -pred_score), 1, 0.5]
    assert auroc_of_columns(gt_label, columns).tolist() == expected
    assert np.isnan(auroc_of_columns(np.zeros_like(gt_label), columns)).all()


@samples
def test_threshold_metrics_equal_scikit_learn(gt_label, pred_score):
    curve = threshold_curve(gt_label, pred_score)
    between = (pred_score.min() + pred_score.max()) / 2
    beyond = (np.nextafter(pred_score.max(), np.inf), np.nextafter(pred_score.min(), -np.inf))
    for threshold in (*pred_score[:20], between, *beyond):
        pred_label = (pred_score >= threshold).astype(int)
        expected = {
            "f1": sklearn_metrics.f1_score(gt_label, pred_label, zero_division=0),
            "accuracy": sklearn_metrics.accuracy_score(gt_label, pred_label),
            "sensitivity": sklearn_metrics.recall_score(gt_label, pred_label),
            "specificity": sklearn_metrics.recall_score(gt_label, pred_label, pos_label=0),
        }
        assert threshold_metrics(curve, threshold) == pytest.approx(expected)


def readings_of_scikit_learn(gt_label, pred_score):
    """Read off its curve; a target that fewer images than 1 / (1 - target) show is left out."""
    fpr, tpr, _ = sklearn_metrics.roc_curve(gt_label, pred_score, drop_intermediate=False)
    normal, anomalous = (np.count_nonzero(gt_label == label) for label in (0, 1))
    found = {}
    for percent in (90, 95, 99):
        missing = (100 - percent) / 100 + 1e-12
        if normal * missing >= 1:
            found[f"oracle_sensitivity_at_{percent}"] = tpr[fpr <= missing].max()
        if anomalous * missing >= 1:
            found[f"oracle_specificity_at_{percent}"] = 1 - fpr[tpr >= 1 - missing].min()
    return found


@samples
def test_readings_equal_those_of_scikit_learns_curve(gt_label, pred_score):
    found = readings(threshold_curve(gt_label, pred_score))
    assert found == pytest.approx(readings_of_scikit_learn(gt_label, pred_score))


def test_readings_by_hand():
    """The three highest are normal; then each normal has an anomalous one of the same score."""
    gt_label = np.repeat([0, 0, 1], [3, 17, 17])
    pred_score = np.concatenate([[99, 99, 98], np.arange(17), np.arange(17)])
    found = readings(threshold_curve(gt_label, pred_score))
    # Of 20 normals 2 or 1 may be called anomalous: 2 share the highest score, so none or those 2.
    assert found == {
        **{"oracle_sensitivity_at_90": 0, "oracle_sensitivity_at_95": 0},
        "oracle_specificity_at_90": pytest.approx(1 / 20),  # 16 of 17: one normal is below
    }


def test_hand_computation():
    # Pairs (anomalous, normal): 3 > 2, 3 > 1, 2 = 2, 2 > 1 -> 3.5 of 4.
    curve = threshold_curve(np.array([1, 1, 0, 0]), np.array([3.0, 2.0, 2.0, 1.0]))
    found = ranking_metrics(curve)
    assert found["image_auroc"] == 3.5 / 4
    assert found["image_aupr"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["oracle_f1"] == 4 / 5  # at 2: 2 found, 1 false alarm
    assert threshold_metrics(curve, 2.0)["sensitivity"] == 1  # a score at the threshold
    # F1 is 2/3 at 4 (1 of 2 found, no false alarm) and at 1 (both found, 2 false alarms).
    curve = threshold_curve(np.array([1, 0, 0, 1]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert f1_max_threshold(curve) == 4
    assert ranking_metrics(curve)["oracle_f1"] == 2 / 3


@pytest.mark.parametrize(
    ("gt_label", "missing"),
    [([], "images"), ([0, 0], "anomalous images"), ([1], "normal images"), ([0, 1], None)],
)
def test_a_missing_class_and_scores_that_are_not_finite(gt_label, missing):
    gt_label = np.array(gt_label, dtype=int)
    scores = np.arange(float(gt_label.size))
    assert missing_class(gt_label) == missing
    assert (image_auroc(gt_label, scores) is None) == (missing is not None)
    with pytest.raises(ValueError, match=f"no {missing}" if missing else "finite"):
        threshold_curve(gt_label, scores if missing else np.array([0, np.inf]))


def intervals_one_by_one(gt_label, pred_score, threshold, evaluation, block):
    """The same draws as `bootstrap_intervals`, each replicate judged by scikit-learn."""
    generator = np.random.default_rng(metrics.BOOTSTRAP_SEED)
    ordered = [np.sort(pred_score[gt_label == label])[::-1] for label in (1, 0)]
    rows = []
    for start in range(0, evaluation.bootstrap_replicates, block):
        size = min(block, evaluation.bootstrap_replicates - start)
        drawn = [
            scores[generator.integers(scores.size, size=(size, scores.size))] for scores in ordered
        ]
        for anomalous, normal in zip(*drawn, strict=True):
            y = np.repeat([1, 0], [anomalous.size, normal.size])
            s = np.concatenate([anomalous, normal])
            called = s >= threshold
            rows.append(
                {
                    "image_auroc": sklearn_metrics.roc_auc_score(y, s),
                    "image_aupr": sklearn_metrics.average_precision_score(y, s),
                    "oracle_f1": max(sklearn_metrics.f1_score(y, s >= t) for t in np.unique(s)),
                    **readings_of_scikit_learn(y, s),
                    "f1": sklearn_metrics.f1_score(y, called),
                    "accuracy": sklearn_metrics.accuracy_score(y, called),
                    "sensitivity": sklearn_metrics.recall_score(y, called),
                    "specificity": sklearn_metrics.recall_score(y, called, pos_label=0),
                }
            )
    tail = (1 - evaluation.confidence) / 2
    return {
        name: np.quantile([row[name] for row in rows], [tail, 1 - tail]).tolist()
        for name in rows[0]
    }


@pytest.mark.parametrize("block", [7, 30])
def test_bootstrap_equals_one_replicate_after_the_other(monkeypatch, block):
    gt_label, pred_score = draw(9, normal=20, anomalous=12, decimals=1)
    curve = threshold_curve(gt_label, pred_score)
    monkeypatch.setattr(metrics, "_BLOCK", block * curve.threshold.size)
    evaluation = EvaluationSettings(bootstrap_replicates=30, confidence=0.9)
    expected = intervals_one_by_one(gt_label, pred_score, 0.5, evaluation, block)
    found = bootstrap_intervals(curve, 0.5, evaluation)
    assert found == {name: pytest.approx(value) for name, value in expected.items()}
    assert {name for name in found if "_at_" in name} == {
        *("oracle_sensitivity_at_90", "oracle_sensitivity_at_95", "oracle_specificity_at_90")
    }


def test_bootstrap_without_threshold_or_replicates_and_with_more_confidence():
    curve = threshold_curve(np.repeat([0, 1], 10), np.arange(20.0))
    # It separates these images: each draw has the same value, and that is no interval.
    assert bootstrap_intervals(curve, None, EvaluationSettings()) == {}
    some = bootstrap_intervals(threshold_curve(*draw(10)), None, EvaluationSettings())
    few = {"oracle_sensitivity_at_99", "oracle_specificity_at_99"}  # of 60 and 40 images
    assert set(some) == {*metrics.RANKING_METRICS, *metrics.READINGS} - few
    assert bootstrap_intervals(curve, 1.0, EvaluationSettings(bootstrap_replicates=0)) == {}
    wide, narrow = (
        bootstrap_intervals(threshold_curve(*draw(10)), 0.5, EvaluationSettings(confidence=level))
        for level in (0.99, 0.8)
    )
    for name, (low, high) in narrow.items():
        assert wide[name][0] < low < high < wide[name][1]
