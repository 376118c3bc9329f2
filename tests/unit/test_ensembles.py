"""Ensembles and risk-coverage by hand."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix, roc_auc_score

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.judging.certainty import (
    aurc,
    ensemble_scores,
    evaluate_ensemble,
    optimal_aurc,
    risk_coverage,
)
from aeflow.scoring.combine import pred_score
from aeflow.study.settings import ScoreSettings, ThresholdSettings

SCORE = ScoreSettings(flow="nll", reconstruction="mse", beta=0.5)


def draw(seed, scale=1.0):
    """A member's score table: the same 100 images for every seed, other scores."""
    gt_label = np.tile([0, 0, 0, 1, 1], 20)
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "image_id": [f"{index:03d}" for index in range(100)],
            "split": ["validation"] * 40 + ["test"] * 60,
            "gt_label": gt_label,
            "defect": np.where(gt_label == 1, "crack", "good"),
        }
    )
    for name in ("nll", "mse"):
        table[name] = scale * (generator.normal(size=100) + gt_label)
    return table


def by_hand(gt_label, score, uncertainty, validation):
    """An ensemble as `ensemble_scores` returns it."""
    return pd.DataFrame(
        {
            "split": np.where(validation, "validation", "test"),
            "gt_label": gt_label,
            "pred_score": np.array(score, dtype=float),
            "uncertainty": np.array(uncertainty, dtype=float),
            "member_1": np.array(score, dtype=float),
            "member_2": -np.array(score, dtype=float),
        }
    )


@pytest.fixture
def small():
    """Threshold 5 by F1 on validation, limit of certainty 2 (median of 1, 1, 2, 3, 9)."""
    validation = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    return by_hand(
        gt_label=[0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1],
        score=[1, 2, 3, 5, 6, 1, 2, 7, 8, 5, 4],
        uncertainty=[1, 1, 2, 3, 9, 1, 3, 4, 2, 2.5, 1.5],
        validation=np.array(validation, dtype=bool),
    )


def test_the_score_is_the_mean_of_standardised_members():
    tables = [draw(0), draw(1, scale=1000.0), draw(2)]
    found = ensemble_scores(tables, Method.AEFLOW, SCORE)
    normal = ((tables[0]["split"] == "validation") & (tables[0]["gt_label"] == 0)).to_numpy()
    raw = [pred_score(table, Method.AEFLOW, SCORE) for table in tables]
    members = np.array([stats.zmap(values, values[normal]) for values in raw])
    assert found["pred_score"].to_numpy() == pytest.approx(members.mean(axis=0))
    assert found["uncertainty"].to_numpy() == pytest.approx(members.std(axis=0, ddof=1))
    assert found["member_2"].to_numpy() == pytest.approx(members[1])
    assert found["image_id"].tolist() == tables[0]["image_id"].tolist()


def test_no_member_dominates():
    tables = [draw(0), draw(1)]
    same = ensemble_scores(tables, Method.AEFLOW, SCORE)
    larger = ensemble_scores([tables[0], draw(1, scale=1e4)], Method.AEFLOW, SCORE)
    assert larger["pred_score"].to_numpy() == pytest.approx(same["pred_score"].to_numpy())


@pytest.mark.parametrize("count", [0, 1])
def test_an_ensemble_of_one_is_refused(count):
    with pytest.raises(DataError, match=f"2 or more seeds, there is {count}"):
        ensemble_scores([draw(0)] * count, Method.AEFLOW, SCORE)


def test_members_have_the_same_images_and_a_scale():
    with pytest.raises(DataError, match="Score table 2"):
        ensemble_scores([draw(0), draw(1)[:-1]], Method.AEFLOW, SCORE)
    constant = draw(1).assign(nll=0.5, mse=0.5)
    with pytest.raises(DataError, match="member"):
        ensemble_scores([draw(0), constant], Method.AEFLOW, SCORE)


def test_right_and_wrong_certain_and_uncertain_by_hand(small):
    found = evaluate_ensemble(small, ThresholdSettings())
    assert (found["threshold"], found["threshold_rule"], found["certain_limit"]) == (
        5,
        "f1_max",
        2,
    )
    # Test: right, right, wrong (7), right, right (5 >= 5), wrong (4).
    assert (found["right_certain"], found["wrong_certain"]) == (2, 1)
    assert (found["right_uncertain"], found["wrong_uncertain"]) == (2, 1)
    assert found["error_rate"] == pytest.approx(2 / 6)
    assert found["error_rate_certain"] == pytest.approx(1 / 3)
    assert found["error_rate_uncertain"] == pytest.approx(1 / 3)
    # In the order of uncertainty: right, wrong, right, right, right, wrong.
    risk = [0, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 2 / 6]
    assert found["risk"] == pytest.approx(risk)
    assert found["aurc"] == pytest.approx(np.mean(risk))
    assert found["aurc_optimal"] == pytest.approx((1 / 5 + 2 / 6) / 6)
    assert found["aurc_excess"] == pytest.approx(found["aurc"] - found["aurc_optimal"])
    assert (found["accuracy"], found["f1"]) == (pytest.approx(4 / 6), pytest.approx(4 / 6))
    # Of 9 pairs 8 > 1, 2, 7; 5 > 1, 2; 4 > 1, 2. The second member is the first, negated.
    assert found["image_auroc"] == pytest.approx(7 / 9)
    assert found["member_auroc"] == pytest.approx([7 / 9, 2 / 9])
    assert found["member_auroc_mean"] == pytest.approx(1 / 2)
    assert (found["n_members"], found["n_test"], found["reasons"]) == (2, 6, {})


def test_no_choice_sees_a_test_image(small):
    other = small.copy()
    other.loc[5:, "gt_label"] = [1, 1, 0, 0, 0, 1]
    before, after = (evaluate_ensemble(t, ThresholdSettings()) for t in (small, other))
    for name in ("threshold", "threshold_rule", "certain_limit"):
        assert before[name] == after[name]
    assert before["right_certain"] + before["wrong_certain"] == (
        after["right_certain"] + after["wrong_certain"]
    )
    other.loc[5:, "uncertainty"] += 10
    assert evaluate_ensemble(other, ThresholdSettings())["certain_limit"] == 2


def test_counts_agree_with_scikit_learn():
    table = ensemble_scores([draw(0), draw(1), draw(2)], Method.AEFLOW, SCORE)
    found = evaluate_ensemble(table, ThresholdSettings(rule="normal_quantile", quantile=0.8))
    test = table[table["split"] == "test"]
    (tn, fp), (fn, tp) = confusion_matrix(
        test["gt_label"], test["pred_score"] >= found["threshold"]
    )
    assert found["wrong_certain"] + found["wrong_uncertain"] == fp + fn
    assert found["right_certain"] + found["right_uncertain"] == tp + tn
    assert found["image_auroc"] == pytest.approx(
        roc_auc_score(test["gt_label"], test["pred_score"])
    )
    assert found["risk"][-1] == pytest.approx((fp + fn) / 60)


def test_what_cannot_be_computed_has_a_reason(small):
    normal = small[(small["split"] == "validation") | (small["gt_label"] == 0)]
    found = evaluate_ensemble(normal, ThresholdSettings())
    assert (found["image_auroc"], found["aurc"], found["risk"]) == (None, None, [])
    assert found["reasons"]["aurc"] == "Test has no anomalous images."
    few = evaluate_ensemble(small[2:], ThresholdSettings())
    assert few["image_auroc"] == pytest.approx(7 / 9)
    assert (few["threshold"], few["right_certain"], few["aurc"]) == (None, None, None)
    assert "2 or more normal validation images" in few["reasons"]["aurc"]
    sure = evaluate_ensemble(small.assign(uncertainty=0.0), ThresholdSettings())
    assert sure["error_rate_certain"] == pytest.approx(2 / 6)
    assert sure["error_rate_uncertain"] is None
    assert sure["reasons"] == {"error_rate_uncertain": "No test image is uncertain."}
    for result in (found, few, sure):
        missing = {name for name, value in result.items() if value is None}
        assert missing == result["reasons"].keys()


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
    assert optimal_aurc(0, 4) == 0
    assert optimal_aurc(4, 4) == 1
