"""The threshold: which one, by which rule, and when there is none."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, roc_curve

from aeflow.judging.thresholds import Threshold, fit_threshold, unlike_validation
from aeflow.study.settings import ThresholdSettings

F1_MAX = ThresholdSettings()
QUANTILE = ThresholdSettings(rule="specificity", specificity=0.95)


ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), min_size=3, max_size=30).map(
    lambda rows: np.array(rows).T
)


@settings(derandomize=True, deadline=None)
@given(ROWS)
def test_f1_max_is_the_highest_of_the_best_candidates(rows):
    gt_label, pred_score = rows[0], rows[1] / 3 + 300
    assume(0 < gt_label.sum() <= gt_label.size - 2)
    candidates = sorted(set(pred_score), reverse=True)
    f1 = [f1_score(gt_label, pred_score >= candidate) for candidate in candidates]
    expected = next(c for c, value in zip(candidates, f1, strict=True) if value > max(f1) - 1e-12)
    fitted = fit_threshold(gt_label, pred_score, F1_MAX)
    assert (fitted.value, fitted.rule, fitted.reason) == (expected, "f1_max", None)
    few = min(gt_label.sum(), gt_label.size - gt_label.sum()) < 10
    assert few == ("that takes 10 and 10 or more" in (fitted.warning or ""))


@settings(derandomize=True, deadline=None)
@given(ROWS, st.sampled_from([0.1, 1.0, 2.5, 50.0]), st.sampled_from([0.01, 0.5, 0.8]))
def test_youden_and_cost_are_the_best_points_of_scikit_learns_curve(rows, cost, prevalence):
    gt_label, pred_score = rows[0], rows[1] / 3 + 300
    assume(0 < gt_label.sum() < gt_label.size)
    fpr, tpr, scores = roc_curve(gt_label, pred_score, drop_intermediate=False)
    scores[0] = np.nextafter(pred_score.max(), np.inf)  # nothing is called anomalous
    youden = tpr - fpr
    expected = prevalence * cost * (1 - tpr) + (1 - prevalence) * fpr
    by_cost = ThresholdSettings(rule="cost", cost=cost, prevalence=prevalence)
    for asked, loss in ((ThresholdSettings(rule="youden"), -youden), (by_cost, expected)):
        fitted = fit_threshold(gt_label, pred_score, asked)
        assert fitted.value == scores[np.flatnonzero(loss <= loss.min() + 1e-12)[0]]
        assert (fitted.rule, fitted.reason) == (asked.rule, None)
        assert (fitted.normal, fitted.anomalous) == ((gt_label == 0).sum(), gt_label.sum())


@pytest.mark.parametrize(
    ("odds", "normals", "anomalies"),
    [(1.0, 10, 10), (24.0, 10, 25), (0.02, 51, 10)],
)
def test_a_cost_that_single_images_decide_is_warned_of(odds, normals, anomalies):
    """With so many images a miss no longer outweighs all false alarms, nor one all misses."""
    by_cost = ThresholdSettings(rule="cost", cost=odds)
    for missing, warned in (((0, 0), False), ((1, 0), True), ((0, 1), True)):
        gt_label = np.repeat([0, 1], [normals - missing[0], anomalies - missing[1]])
        scores = np.arange(float(gt_label.size))
        scores[[0, -1]] = scores[[-1, 0]]
        warning = fit_threshold(gt_label, scores, by_cost).warning or ""
        assert (f"that takes {normals} and {anomalies} or more" in warning) == warned


def test_a_rule_that_calls_nothing_anomalous_says_so():
    gt_label, scores = np.repeat([1, 0], 20), np.arange(40.0)  # the wrong way round
    fitted = fit_threshold(gt_label, scores, ThresholdSettings(rule="youden"))
    assert 39 < fitted.value < 39.0001
    assert "calls no validation image anomalous" in fitted.warning
    every = fit_threshold(gt_label, scores, ThresholdSettings(rule="cost", cost=19))
    assert every.value == 0
    assert "calls every validation image anomalous" in every.warning


@pytest.mark.parametrize(("share", "found", "warned"), [(0.9, 27, False), (0.99, 30, True)])
def test_a_sensitivity_is_reached_by_the_highest_score_that_reaches_it(share, found, warned):
    gt_label, scores = np.repeat([0, 1], [5, 30]), np.arange(35.0)
    asked = ThresholdSettings(rule="sensitivity", sensitivity=share)
    fitted = fit_threshold(gt_label, scores, asked)
    assert (scores[gt_label == 1] >= fitted.value).sum() == found
    assert (fitted.asked, fitted.anomalous) == (f"SEN {100 * share:g} %", 30)
    assert ("that takes 100 or more" in (fitted.warning or "")) == warned


@pytest.mark.parametrize("rule", ["sensitivity", "youden", "cost"])
def test_without_anomalies_only_the_default_falls_back(rule):
    fitted = fit_threshold(np.zeros(30, int), np.arange(30.0), ThresholdSettings(rule=rule))
    assert (fitted.value, fitted.rule) == (None, None)
    assert f"by {rule} needs anomalous validation images, there are none" in fitted.reason


def test_a_quantile_among_ties_says_what_specificity_it_has():
    scores = np.repeat([1.0, 2.0], [60, 40])  # a score at the threshold is anomalous
    fitted = fit_threshold(np.zeros(100, int), scores, QUANTILE)
    assert "the specificity there is 60.0 %" in fitted.warning


def test_the_quantile_is_of_normals_alone_and_interpolated():
    gt_label = np.repeat([0, 1], [101, 50])
    pred_score = np.concatenate([np.arange(101.0), np.full(50, 1e6)])
    fitted = fit_threshold(gt_label, pred_score, QUANTILE)
    assert fitted == Threshold(95, "specificity", "SPE 95 %", normal=101)
    half = ThresholdSettings(rule="specificity", specificity=0.75)
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
    fitted = fit_threshold(np.zeros(normals, int), scores, ThresholdSettings(specificity=quantile))
    assert (fitted.value, fitted.rule) == (np.quantile(scores, quantile), "specificity")
    sentence = f"The threshold is the {quantile} quantile of {normals} validation normal"
    assert (fitted.warning or "").startswith(sentence) == warned == bool(fitted.warning)
    if warned:  # with as many as it asks for there is no warning
        needed = int(re.search(r"takes (\d+) or more", fitted.warning)[1])
        for n, few in ((needed - 1, True), (needed, False)):
            again = fit_threshold(
                np.zeros(n, int), np.arange(float(n)), ThresholdSettings(specificity=quantile)
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
    assert (fitted.value, fitted.rule) == (2.5, "specificity")
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
