"""The threshold: which one, by which rule, and when there is none."""

import logging

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from aeflow.judging.thresholds import Threshold, fit_threshold
from aeflow.study.settings import ThresholdSettings

repeatable = settings(derandomize=True, deadline=None)
F1_MAX = ThresholdSettings()
QUANTILE = ThresholdSettings(rule="normal_quantile", quantile=0.95)


def test_f1_max_is_the_lowest_anomalous_score_of_separable_data():
    gt_label, pred_score = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    assert fit_threshold(gt_label, pred_score, F1_MAX) == Threshold(0.8, "f1_max")


@repeatable
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), min_size=3, max_size=30).map(
        lambda rows: np.array(rows).T
    )
)
def test_f1_max_is_the_highest_best_candidate(rows):
    gt_label, pred_score = rows[0], rows[1] / 3 + 300
    assume(0 < gt_label.sum() <= gt_label.size - 2)
    candidates = sorted(set(pred_score), reverse=True)
    f1 = [f1_score(gt_label, pred_score >= candidate) for candidate in candidates]
    expected = next(c for c, value in zip(candidates, f1, strict=True) if value > max(f1) - 1e-12)
    assert fit_threshold(gt_label, pred_score, F1_MAX).value == expected


def test_normal_quantile_ignores_anomalies():
    gt_label = np.repeat([0, 1], [101, 50])
    pred_score = np.concatenate([np.arange(101.0), np.full(50, 1e6)])
    assert fit_threshold(gt_label, pred_score, QUANTILE) == Threshold(95, "normal_quantile")


def test_f1_max_without_anomalies_falls_back_and_says_so():
    normals = np.arange(101.0)
    fitted = fit_threshold(np.zeros(101, int), normals, F1_MAX)
    assert fitted == Threshold(pytest.approx(95), "normal_quantile")


def test_quantile_is_interpolated_between_neighbours():
    half = ThresholdSettings(rule="normal_quantile", quantile=0.75)
    fitted = fit_threshold(np.zeros(4, int), np.array([4.0, 1.0, 3.0, 2.0]), half)
    assert fitted.value == 3.25  # position 0.75 * 3 = 2.25 among 1, 2, 3, 4


@pytest.mark.parametrize("settings", [F1_MAX, QUANTILE])
@pytest.mark.parametrize(("gt_label", "normals"), [([], 0), ([1, 1, 1], 0), ([0, 1, 1], 1)])
def test_too_few_normals_give_a_reason(settings, gt_label, normals):
    gt_label = np.array(gt_label, dtype=int)
    fitted = fit_threshold(gt_label, np.arange(float(gt_label.size)), settings)
    assert fitted.value is None
    assert fitted.rule is None
    assert f"there are {normals}" in fitted.reason
    assert "val_fraction" in fitted.reason


@pytest.mark.parametrize(("normals", "warned"), [(20, True), (21, False)])
def test_quantile_beyond_the_second_highest_score_is_logged(caplog, normals, warned):
    with caplog.at_level(logging.WARNING, logger="aeflow.judging.thresholds"):
        fit_threshold(np.zeros(normals, int), np.arange(float(normals)), QUANTILE)
    assert bool(caplog.records) == warned
