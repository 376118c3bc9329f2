"""Right and wrong, certain and uncertain, by hand; areas against all orders."""

from itertools import permutations

import numpy as np
import pytest

from aeflow.judging.certainty import aurc, certainty, no_certainty, optimal_aurc, risk_coverage

# Members and their sd (n - 1): the two values of a row are its score -+ sd / sqrt 2. The limit of
# certainty is 2, the median of 1, 1, 2, 3, 9 on validation.
SPREAD = np.array([1, 1, 2, 3, 9, 1, 3, 4, 2, 2.5, 1.5])
SCORE = np.array([1, 2, 3, 5, 6, 1, 2, 7, 8, 5, 4])
MEMBERS = SCORE[:, None] + np.outer(SPREAD, [1, -1]) / np.sqrt(2)
LABEL = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1])
TEST = np.arange(11) >= 5
WRONG = (SCORE[TEST] >= 5) != (LABEL[TEST] == 1)  # right, right, wrong, right, right, wrong


def test_certainty_by_hand():
    spread = SPREAD.copy()
    spread[8] = 1.75  # 2 within rounding: not at the limit itself
    members = SCORE[:, None] + np.outer(spread, [1, -1]) / np.sqrt(2)
    found = certainty(LABEL, members, TEST, WRONG)
    assert (found["right_certain"], found["wrong_certain"]) == (2, 1)
    assert (found["right_uncertain"], found["wrong_uncertain"]) == (2, 1)
    assert found["error_rate"] == pytest.approx(2 / 6)
    assert found["error_rate_certain"] == found["error_rate_uncertain"] == pytest.approx(1 / 3)
    risk = [0, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 2 / 6]  # right, wrong, right, right, right, wrong
    assert found["aurc"] == pytest.approx(np.mean(risk))
    assert found["aurc_optimal"] == pytest.approx((1 / 5 + 2 / 6) / 6)
    assert found["aurc_excess"] == pytest.approx(found["aurc"] - found["aurc_optimal"])
    # Of 9 pairs of the first member (1.71, 4.12, 9.83; 9.24, 6.77, 5.06) 6 are right.
    assert found["member_auroc"] == pytest.approx([6 / 9, 7 / 9])


def test_an_image_at_the_limit_is_certain_and_the_limit_sees_no_test_image():
    members = np.outer([0, 1, 2, 1, 1.0], [1, -1])  # validation: 0, 1, 2, median 1
    test = np.arange(5) >= 3
    found = certainty(np.array([0, 0, 1, 0, 1]), members, test, np.array([True, False]))
    assert (found["wrong_certain"], found["right_certain"]) == (1, 1)
    assert (found["error_rate_certain"], found["error_rate_uncertain"]) == (0.5, None)
    members[3:] *= 1.5  # the median of all five is at their height
    found = certainty(np.array([0, 0, 1, 0, 1]), members, test, np.array([True, False]))
    assert (found["wrong_uncertain"], found["right_uncertain"]) == (1, 1)
    assert found["error_rate_certain"] is None


def test_what_cannot_be_computed_is_none():
    alone = certainty(LABEL, MEMBERS[:, :1], TEST, WRONG)
    assert alone["aurc"] is None, "a study of one seed"
    assert len(alone["member_auroc"]) == 1
    found = certainty(LABEL, MEMBERS, TEST, None)
    assert found == no_certainty() | {"member_auroc": found["member_auroc"]}
    assert len(found["member_auroc"]) == 2
    assert certainty(np.zeros(11, int), MEMBERS, TEST, WRONG) == no_certainty()


def test_equal_uncertainty_is_the_mean_over_orders():
    wrong = np.array([False, True, False, True, False])
    uncertainty = np.array([2.0, 1.0, 2.0, 2.0, 3.0])
    curves = [
        np.cumsum(wrong[[1, *middle, 4]]) / np.arange(1, 6) for middle in permutations((0, 2, 3))
    ]
    assert risk_coverage(wrong, uncertainty) == pytest.approx(np.mean(curves, axis=0))
    blind = risk_coverage(wrong, np.zeros(5))
    assert blind == pytest.approx([2 / 5] * 5)
    assert aurc(blind) == pytest.approx(2 / 5)


def test_the_best_order_leaves_the_errors_for_last():
    for errors in range(5):
        wrong = np.arange(4) < errors
        areas = [aurc(risk_coverage(wrong, np.array(order))) for order in permutations(range(4))]
        assert optimal_aurc(errors, 4) == pytest.approx(min(areas))
    assert (optimal_aurc(0, 4), optimal_aurc(4, 4)) == (0, 1)
