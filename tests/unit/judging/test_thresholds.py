"""The threshold: which one, by which rule, and when there is none."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from aeflow.judging.thresholds import Threshold, fit_threshold, unlike_validation
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
    fitted = fit_threshold(gt_label, pred_score, F1_MAX)
    assert (fitted.value, fitted.rule, fitted.reason) == (expected, "f1_max", None)
    few = min(gt_label.sum(), gt_label.size - gt_label.sum()) < 10
    assert few == ("with fewer than 10 of a class" in (fitted.warning or "-"))


def test_the_quantile_is_of_normals_alone_and_interpolated():
    gt_label = np.repeat([0, 1], [101, 50])
    pred_score = np.concatenate([np.arange(101.0), np.full(50, 1e6)])
    assert fit_threshold(gt_label, pred_score, QUANTILE) == Threshold(95, "normal_quantile")
    half = ThresholdSettings(rule="normal_quantile", quantile=0.75)
    fitted = fit_threshold(np.zeros(4, int), np.array([4.0, 1.0, 3.0, 2.0]), half)
    assert fitted.value == 3.25  # position 0.75 * 3 = 2.25 among 1, 2, 3, 4


@pytest.mark.parametrize(
    ("normals", "quantile", "warned"),
    [(1, 0.9, True), (20, 0.95, True), (21, 0.95, False), (4, 0.75, True), (5, 0.75, False)],
)
def test_f1_max_without_anomalies_falls_back_and_few_normals_are_warned_of(
    normals, quantile, warned
):
    scores = np.arange(float(normals))
    fitted = fit_threshold(np.zeros(normals, int), scores, ThresholdSettings(quantile=quantile))
    assert (fitted.value, fitted.rule) == (np.quantile(scores, quantile), "normal_quantile")
    sentence = f"The threshold is the {quantile} quantile of {normals} validation normal"
    assert (fitted.warning or "").startswith(sentence) == warned == bool(fitted.warning)
    if warned:  # with as many as it asks for there is no warning
        needed = int(re.search(r"takes (\d+) or more", fitted.warning)[1])
        for n, few in ((needed - 1, True), (needed, False)):
            again = fit_threshold(
                np.zeros(n, int), np.arange(float(n)), ThresholdSettings(quantile=quantile)
            )
            assert bool(again.warning) == few


@pytest.mark.parametrize("settings", [F1_MAX, QUANTILE])
@pytest.mark.parametrize("gt_label", [[], [1, 1, 1]])
def test_without_normals_there_is_a_reason(settings, gt_label):
    gt_label = np.array(gt_label, dtype=int)
    fitted = fit_threshold(gt_label, np.arange(float(gt_label.size)), settings)
    assert (fitted.value, fitted.rule, fitted.warning) == (None, None, None)
    assert "there are none: raise data.val_fraction" in fitted.reason


def test_one_normal_is_a_threshold_and_a_warning():
    fitted = fit_threshold(np.zeros(1, int), np.array([2.5]), F1_MAX)
    assert (fitted.value, fitted.rule) == (2.5, "normal_quantile")
    assert "of 1 validation normal, so it depends on single images" in fitted.warning


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_false_alarms_beyond_chance_are_those_of_a_beta_binomial(known, images, data):
    called = data.draw(st.integers(0, known - 1))
    alarms = data.draw(st.integers(0, images))
    validation = np.repeat([0.0, 1.0], [known - called, called])
    test = np.repeat([0.0, 1.0], [images - alarms, alarms])
    found = unlike_validation(validation, test, 1.0)
    chance = stats.betabinom(images, called + 1, known - called).sf(alarms - 1)
    assume(abs(chance - 0.001) > 1e-9)
    far = alarms / images - called / known >= 0.1
    assert (found is not None) == (chance < 0.001 and far)
    if found:
        assert found.startswith(f"Of {images} test normals {alarms} are at or above")


def test_like_images_are_seldom_called_unlike():
    """Also where the threshold itself depends on few images, which a binomial test forgets."""
    draw, found = np.random.default_rng(0), []
    for _ in range(2000):
        known, test = draw.normal(size=(2, 40))
        threshold = fit_threshold(np.zeros(12, int), known[:12], QUANTILE).value
        found.append(unlike_validation(known[:12], test, threshold) is not None)
    assert np.mean(found) < 0.004


def test_the_false_alarms_of_other_images_are_told():
    draw = np.random.default_rng(0)
    known, test = draw.normal(size=100), draw.normal(size=60) + 2
    threshold = fit_threshold(np.zeros(100, int), known, QUANTILE).value
    assert "more false alarms than chance allows" in unlike_validation(known, test, threshold)
    assert unlike_validation(known, test, known.min()) is None  # it promised nothing
