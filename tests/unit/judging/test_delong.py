"""DeLong's test against its definition, a published example and simulation; Holm by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from aeflow.judging.delong import (
    Comparison,
    auroc_covariance,
    compare_aurocs,
    holm,
    mean_auroc,
    mean_comparison,
    mean_seed_differences,
    seed_differences,
)
from aeflow.judging.metrics import bootstrap_intervals, threshold_curve
from aeflow.study.settings import EvaluationSettings

# DeLong, DeLong and Clarke-Pearson (1988): albumin, total protein, K-G score and whether surgery
# failed to help (0), of 43 patients with ovarian cancer; as printed in the SAS/STAT User's Guide,
# PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves".
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0
1.6 5.6 5 1   3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1
4.3 7.0 4 1   3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1
3.0 4.7 8 0   4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1
3.2 5.1 5 1   2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
3.5 6.2 5 1   2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
3.6 6.6 5 1
"""


def draw(seed, normal=40, anomalous=30, columns=2, decimals=None, shift=(1.0, 1.0)):
    """Labels and correlated scores (N, columns) of two shifted normal distributions."""
    generator = np.random.default_rng(seed)
    gt_label = generator.permutation(np.repeat([0, 1], [normal, anomalous]))
    shared = generator.normal(size=(gt_label.size, 1))
    own = generator.normal(size=(gt_label.size, columns))
    scores = (shared + own) / np.sqrt(2) + np.outer(gt_label, np.resize(shift, columns))
    return gt_label, scores if decimals is None else scores.round(decimals)


def components_by_definition(gt_label, scores):
    """V10 (m,) and V01 (n,): the kernel of every pair, written out."""
    anomalous, normal = scores[gt_label == 1], scores[gt_label == 0]
    kernel = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in normal] for x in anomalous]
    v10 = [sum(row) / len(normal) for row in kernel]
    v01 = [sum(row[j] for row in kernel) / len(anomalous) for j in range(len(normal))]
    return np.array(v10), np.array(v01)


def covariance_by_definition(gt_label, scores):
    parts = [components_by_definition(gt_label, column) for column in scores.T]
    size = len(parts)
    found = np.zeros((size, size))
    for r in range(size):
        for s in range(size):
            for k in (0, 1):
                first, second = parts[r][k], parts[s][k]
                n = len(first)
                products = (first - first.mean()) * (second - second.mean())
                found[r, s] += products.sum() / (n - 1) / n
    return found


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize(("normal", "anomalous"), [(25, 18), (2, 2), (3, 40)])
def test_midranks_equal_the_definition_over_all_pairs(decimals, normal, anomalous):
    gt_label, scores = draw(1, normal, anomalous, columns=3, decimals=decimals)
    auroc, covariance = auroc_covariance(gt_label, scores)
    assert auroc == pytest.approx([roc_auc_score(gt_label, s) for s in scores.T], abs=1e-14)
    assert covariance == pytest.approx(covariance_by_definition(gt_label, scores), abs=1e-15)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize(("seeds", "others"), [(1, 1), (3, 2)])
def test_the_paired_test_by_definition(decimals, seeds, others):
    """Several seeds: a contrast of their mean."""
    shift = np.repeat([1.5, 0.8], [seeds, others])
    gt_label, scores = draw(2, columns=seeds + others, decimals=decimals, shift=shift)
    found = compare_aurocs(gt_label, scores[:, :seeds], scores[:, seeds:])
    contrast = np.repeat([1 / seeds, -1 / others], [seeds, others])
    auroc = np.array([roc_auc_score(gt_label, s) for s in scores.T])
    error = np.sqrt(contrast @ covariance_by_definition(gt_label, scores) @ contrast)
    difference = contrast @ auroc
    assert [found.first, found.second] == pytest.approx(
        [auroc[:seeds].mean(), auroc[seeds:].mean()], abs=1e-14
    )
    assert found.difference == pytest.approx(difference)
    assert found.standard_error == pytest.approx(error, rel=1e-10)
    assert found.z == pytest.approx(difference / error)
    assert found.p_value == pytest.approx(stats.chi2.sf((difference / error) ** 2, 1))
    assert [found.low, found.high] == pytest.approx(
        stats.norm.interval(0.95, difference, error), rel=1e-9
    )
    assert found.reason is None


def test_the_published_example():
    alb, protein, score, helped = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4).T
    gt_label = (helped == 0).astype(int)
    auroc, covariance = auroc_covariance(gt_label, np.column_stack([-alb, score, -protein]))
    assert auroc.round(4).tolist() == [0.7366, 0.7258, 0.6478]
    assert np.sqrt(np.diag(covariance)).round(4).tolist() == [0.0927, 0.1028, 0.1000]
    for first, expected in (
        (-alb, [0.0108, 0.0953, -0.1761, 0.1976]),
        (-protein, [-0.0780, 0.1046, -0.2830, 0.1271]),
    ):
        found = compare_aurocs(gt_label, first, score)
        values = [found.difference, found.standard_error, found.low, found.high]
        assert np.round(values, 4).tolist() == expected
    assert found.z**2 == pytest.approx(0.5554, abs=5e-5)
    assert found.p_value == pytest.approx(0.4561, abs=5e-5)


def test_what_cannot_be_tested_is_no_number():
    gt_label, scores = draw(6)
    first = scores[:, 0]
    seeds = np.column_stack([first] * 3)
    for one, other in ((first, 3 * first + 1), (seeds, first[:, None])):
        same = compare_aurocs(gt_label, one, other)
        assert (same.difference, same.standard_error, same.p_value) == (0, 0, None)
        assert "difference is 0 for every image" in same.reason
    # A perfect score against a constant one: every component is 1 and 1/2.
    perfect = compare_aurocs(gt_label, gt_label + 0.0, np.zeros(gt_label.size))
    assert (perfect.difference, perfect.low, perfect.p_value) == (0.5, None, None)
    assert "difference is 0.5 for every image" in perfect.reason
    for labels, reason in (
        (np.zeros(4, int), "There are no anomalous images."),
        (np.ones(4, int), "There are no normal images."),
        (np.zeros(0, int), "There are no images."),
    ):
        scores = np.arange(float(labels.size))
        assert compare_aurocs(labels, scores, -scores) == Comparison(reason=reason)
    few = compare_aurocs(np.array([0, 0, 1]), np.array([1.0, 2, 3]), np.array([3.0, 1, 2]))
    assert (few.first, few.second, few.p_value) == (1, 0.5, None)
    assert "there are 2 and 1" in few.reason
    with pytest.raises(ValueError, match="there are 2 and 1"):
        auroc_covariance(np.array([0, 0, 1]), np.ones((3, 2)))


def test_wrong_shapes_and_numbers_are_refused():
    gt_label, scores = draw(7)
    with pytest.raises(ValueError, match="one for each label"):
        compare_aurocs(gt_label[1:], scores[:, 0], scores[:, 1])
    with pytest.raises(ValueError, match="finite"):
        compare_aurocs(gt_label, scores[:, 0], np.full(gt_label.size, np.nan))
    with pytest.raises(ValueError, match="same seeds"):
        seed_differences(gt_label, scores[:, [0, 1, 0]], scores)
    with pytest.raises(ValueError, match="no anomalous"):
        seed_differences(np.zeros_like(gt_label), scores, scores)


@pytest.mark.parametrize("shift", [(1.0, 1.0), (1.4, 0.7)])
def test_interval_and_test_are_calibrated(shift):
    """The true AUROC is Phi(shift / sqrt 2); shifts that are equal are the null hypothesis."""
    truth = np.subtract(*stats.norm.cdf(np.array(shift) / np.sqrt(2)))
    found = [
        compare_aurocs(y, *s.T) for y, s in (draw(k, 60, 60, shift=shift) for k in range(400))
    ]
    covered = sum(test.low <= truth <= test.high for test in found)
    rejected = sum(test.p_value < 0.05 for test in found)
    # The binomial sd of a share of 400 at 0.95 is 0.011; the bounds leave 3 of them.
    assert 0.917 < covered / 400 < 0.983
    assert rejected == 400 - covered if truth == 0 else rejected > 0.85 * 400


def test_categories_are_averaged_and_their_variances_add():
    parts = [compare_aurocs(y, *s.T) for y, s in (draw(8), draw(9, 20, 50, shift=(2, 1)))]
    found = mean_comparison(parts)
    error = np.sqrt(parts[0].standard_error ** 2 + parts[1].standard_error ** 2) / 2
    assert found.difference == pytest.approx((parts[0].difference + parts[1].difference) / 2)
    assert found.first == pytest.approx((parts[0].first + parts[1].first) / 2)
    assert found.standard_error == pytest.approx(error)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(found.difference) / error))
    # Where two methods are alike on every image, the other categories decide.
    gt_label, scores = draw(8)
    same = compare_aurocs(gt_label, scores[:, 0], scores[:, 0])
    half = mean_comparison([parts[0], same])
    assert half.difference == parts[0].difference / 2
    assert half.p_value == pytest.approx(parts[0].p_value)
    assert "for every image" in mean_comparison([same, same]).reason
    # A mean needs every category.
    apart = compare_aurocs(gt_label, gt_label + 0.0, np.zeros(gt_label.size))
    assert mean_comparison([parts[0], apart]).p_value is None
    lacking = Comparison(reason="There are no normal images.")
    assert mean_comparison([parts[0], lacking]) == lacking


def test_seed_differences_are_replicates():
    gt_label, scores = draw(10, columns=6, shift=(1.2, 1.0, 1.1, 0.6, 0.7, 0.4))
    first, second = scores[:, :3], scores[:, 3:]
    found = seed_differences(gt_label, first, second)
    pairs = [compare_aurocs(gt_label, first[:, k], second[:, k]) for k in range(3)]
    assert found.difference == [pair.difference for pair in pairs]
    expected = stats.ttest_1samp(found.difference, 0).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx(list(expected))
    assert found.mean == pytest.approx(np.mean(found.difference))
    assert found.sd == pytest.approx(np.std(found.difference, ddof=1))
    # A method without seeds stands beside every seed; one seed has no interval.
    alone = seed_differences(gt_label, first, second[:, :1])
    assert alone.difference == [
        compare_aurocs(gt_label, s, second[:, 0]).difference for s in first.T
    ]
    one = seed_differences(gt_label, first[:, :1], second[:, :1])
    assert (one.sd, one.low, one.high, one.mean) == (None, None, None, one.difference[0])


def test_seed_differences_of_categories_are_averaged_within_a_seed():
    parts = [
        seed_differences(y, s[:, :3], s[:, 3:]) for y, s in (draw(k, columns=6) for k in (1, 2))
    ]
    found = mean_seed_differences(parts)
    expected = [(a + b) / 2 for a, b in zip(*(p.difference for p in parts), strict=True)]
    assert found.difference == pytest.approx(expected)
    ends = stats.ttest_1samp(expected, 0).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx(list(ends))


def test_the_error_of_a_mean_auroc_is_that_of_its_contrast():
    categories = [draw(12, columns=3), draw(13, 20, 50, columns=2)]
    found = mean_auroc(categories)
    variances = []
    for gt_label, scores in categories:
        weight = np.full(scores.shape[1], 1 / scores.shape[1])
        variances.append(weight @ covariance_by_definition(gt_label, scores) @ weight)
    aurocs = [np.mean([roc_auc_score(y, s) for s in scores.T]) for y, scores in categories]
    assert found.auroc == pytest.approx(np.mean(aurocs))
    assert found.standard_error == pytest.approx(np.sqrt(sum(variances)) / 2)
    few = mean_auroc([categories[0], (np.array([0, 0, 1]), np.zeros((3, 1)))])
    assert (few.standard_error, "2 anomalous images" in few.reason) == (None, True)
    assert few.auroc == pytest.approx((aurocs[0] + 0.5) / 2)
    assert mean_auroc([(np.zeros(3), np.zeros((3, 1)))]).reason == "There are no anomalous images."


def test_holm_by_hand():
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 must not be smaller than 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.6]).tolist() == [1, 1, 1]
    assert holm([]).tolist() == []
    found = holm([0.02, np.nan, 0.02, np.nan, 0.5])  # what was not tested counts not
    assert found == pytest.approx([0.06, np.nan, 0.06, np.nan, 0.5], nan_ok=True)
    # R package HDLSSkST, help page of Holm: rejected at 0.05 are the third and the last.
    p_value = [0.50, 0.01, 0.001, 0.69, 0.02, 0.05, 0.0025]
    assert (holm(p_value) < 0.05).tolist() == [False, False, True, False, False, False, True]


def test_holm_is_the_step_down_procedure_at_every_level():
    generator = np.random.default_rng(0)
    for size in (2, 5, 9):
        p_value = generator.random(size).round(1) ** 2
        corrected = holm(p_value)
        for level in (0.013, 0.05, 0.2, 0.7):
            rejected = np.zeros(size, dtype=bool)
            for step, index in enumerate(np.argsort(p_value, kind="stable")):
                if p_value[index] > level / (size - step):
                    break
                rejected[index] = True
            assert (corrected <= level).tolist() == rejected.tolist()


@settings(derandomize=True, deadline=None)
@given(
    st.integers(1, 25), st.integers(1, 25), st.integers(1, 3), st.floats(-3, 3), st.integers(0, 99)
)
def test_no_interval_leaves_the_possible_range(normal, anomalous, seeds, shift, number):
    """Nor does it leave out the number that it belongs to."""
    draw = np.random.default_rng(number)
    gt_label = np.repeat([0, 1], [normal, anomalous])
    first, second = draw.normal(size=(2, normal + anomalous, seeds)).round(1)
    first = first + shift * gt_label[:, None]
    test = compare_aurocs(gt_label, first, second)
    assert (test.low is not None) == (test.p_value is not None) == (test.reason is None)
    if min(normal, anomalous) < 10:
        assert f"there are {normal} and {anomalous}" in test.reason
    if test.low is not None:
        assert -1 <= test.low <= test.difference <= test.high <= 1
        assert 0 <= test.p_value <= 1
    over = seed_differences(gt_label, first, second)
    if over.low is not None:
        assert -1 <= over.low <= over.mean + 1e-15
        assert over.mean - 1e-15 <= over.high <= 1
    alone = mean_auroc([(gt_label, first)])
    if alone.interval is not None:
        low, high = alone.interval
        assert 0 <= low <= alone.auroc <= high <= 1
        assert low < high
    curve = threshold_curve(gt_label, first[:, 0])
    found = bootstrap_intervals(curve, 0.5, EvaluationSettings(bootstrap_replicates=20))
    assert all(0 <= low < high <= 1 for low, high in found.values())


@pytest.mark.parametrize("counts", [(2, 50), (9, 9)])
def test_few_images_bear_no_test(counts):
    """Of two scores alike, one pair in eight had p < 0.001 with 2 and 50 images."""
    gt_label, draw = np.repeat([0, 1], counts), np.random.default_rng(0)
    for _ in range(50):
        test = compare_aurocs(gt_label, *draw.normal(size=(2, sum(counts))))
        assert (test.p_value, test.low) == (None, None)
    perfect = mean_auroc([(np.repeat([0, 1], 20), np.arange(40.0)[:, None])])
    assert (perfect.auroc, perfect.standard_error, perfect.interval) == (1, 0, None)
