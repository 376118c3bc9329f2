"""The threshold: which one, by which rule, and when there is none."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from aeflow.judging.thresholds import Threshold, fit_threshold
from aeflow.study.settings import ThresholdSettings

F1_MAX = ThresholdSettings()
QUANTILE = ThresholdSettings(rule="normal_quantile", quantile=0.95)


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), min_size=3, max_size=30).map(
        lambda rows: np.array(rows).T
    )
)
def test_f1_max_is_the_highest_of_the_best_candidates(rows):
    gt_label, pred_score = rows[0], rows[1] / 3 + 300
    assume(0 < gt_label.sum() <= gt_label.size - 2)
    candidates = sorted(set(pred_score), reverse=True)
    f1 = [f1_score(gt_label, pred_score >= candidate) for candidate in candidates]
    expected = next(c for c, value in zip(candidates, f1, strict=True) if value > max(f1) - 1e-12)
    assert fit_threshold(gt_label, pred_score, F1_MAX) == Threshold(expected, "f1_max")


def test_the_quantile_is_of_normals_alone_and_interpolated():
    gt_label = np.repeat([0, 1], [101, 50])
    pred_score = np.concatenate([np.arange(101.0), np.full(50, 1e6)])
    assert fit_threshold(gt_label, pred_score, QUANTILE) == Threshold(95, "normal_quantile")
    half = ThresholdSettings(rule="normal_quantile", quantile=0.75)
    fitted = fit_threshold(np.zeros(4, int), np.array([4.0, 1.0, 3.0, 2.0]), half)
    assert fitted.value == 3.25  # position 0.75 * 3 = 2.25 among 1, 2, 3, 4


@pytest.mark.parametrize(
    ("normals", "quantile", "warned"),
    [(20, 0.95, True), (21, 0.95, False), (4, 0.75, True), (5, 0.75, False)],
)
def test_f1_max_without_anomalies_falls_back_and_few_normals_are_warned_of(
    normals, quantile, warned
):
    scores = np.arange(float(normals))
    fitted = fit_threshold(np.zeros(normals, int), scores, ThresholdSettings(quantile=quantile))
    assert (fitted.value, fitted.rule) == (np.quantile(scores, quantile), "normal_quantile")
    sentence = f"The {quantile} quantile of {normals} validation normals lies between the two"
    assert (fitted.warning or "").startswith(sentence) == warned == bool(fitted.warning)


@pytest.mark.parametrize("settings", [F1_MAX, QUANTILE])
@pytest.mark.parametrize(("gt_label", "normals"), [([], 0), ([1, 1, 1], 0), ([0, 1, 1], 1)])
def test_too_few_normals_give_a_reason(settings, gt_label, normals):
    gt_label = np.array(gt_label, dtype=int)
    fitted = fit_threshold(gt_label, np.arange(float(gt_label.size)), settings)
    assert (fitted.value, fitted.rule, fitted.warning) == (None, None, None)
    assert f"there are {normals}: raise data.val_fraction" in fitted.reason
