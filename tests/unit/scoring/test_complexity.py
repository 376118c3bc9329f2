"""The correction for complexity against numpy and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.scoring.combine import fused_table, pred_score, standardise
from aeflow.scoring.complexity import MEASURES
from aeflow.study.asked import MemberAsked
from aeflow.study.settings import ScoreSettings

FLOW = ScoreSettings(flow="nll", correct="complexity")


@pytest.fixture
def statistics():
    """The score table of method gradient: 80 validation and 60 test images."""
    generator = np.random.default_rng(1)
    gt_label = np.tile([0, 0, 0, 1], 35)
    table = pd.DataFrame(
        {
            "image_id": [f"{index:03d}" for index in range(140)],
            "split": ["validation"] * 80 + ["test"] * 60,
            "gt_label": gt_label,
            "defect": np.where(gt_label == 1, "crack", "good"),
            "compressed_bits": generator.uniform(1, 6, size=140),
        }
    )
    table["high_gradient"] = 10 * table["compressed_bits"] + generator.normal(size=140)
    table["low_gradient"] = -table["high_gradient"]
    return table


@pytest.fixture
def scores(statistics):
    """A table whose nll follows complexity."""
    generator = np.random.default_rng(0)
    table = statistics[["image_id", "split", "gt_label", "defect"]].copy()
    table["nll"] = 3.0 * statistics["compressed_bits"] + generator.normal(size=140)
    table["ssim"] = generator.normal(size=140).round(1)
    table["padim"] = generator.normal(size=140)
    return table


def normals_of(table):
    return ((table["split"] == "validation") & (table["gt_label"] == 0)).to_numpy()


def residual(values, statistics, normal):
    """By the normal equations."""
    design = np.column_stack([np.ones(len(values)), statistics[list(MEASURES)]])
    known = design[normal]
    return values - design @ np.linalg.solve(known.T @ known, known.T @ values[normal])


@pytest.mark.parametrize("scaling", ["raw", "standardised"])
def test_each_component_is_the_residual_of_least_squares(scores, statistics, scaling):
    normal = normals_of(scores)
    shuffled = statistics.sample(frac=1, random_state=0)
    nll, ssim, padim = (
        residual(scores[name].to_numpy(), statistics, normal) for name in ("nll", "ssim", "padim")
    )
    found = pred_score(scores, Method.PADIM, FLOW, shuffled)
    assert found == pytest.approx(padim, abs=1e-9)
    score = ScoreSettings(flow="nll", beta=0.25, scaling=scaling, correct="complexity")
    if scaling == "standardised":
        nll, ssim = (standardise(values, values[normal], "") for values in (nll, ssim))
    found = pred_score(scores, Method.AEFLOW, score, shuffled)
    assert found == pytest.approx(0.25 * nll + 0.75 * ssim, abs=1e-9)
    uncorrected = score.model_copy(update={"correct": "none"})
    assert stats.spearmanr(found, statistics["compressed_bits"]).statistic < 0.3
    assert found != pytest.approx(pred_score(scores, Method.AEFLOW, uncorrected), abs=0.1)


def test_a_fusion_corrects_its_members(scores, statistics):
    members = [
        MemberAsked(name=name, method=name, score=ScoreSettings(flow="nll"))
        for name in ("flow", "padim")
    ]
    fused, normal = fused_table([scores, scores], members), normals_of(scores)
    parts = [residual(scores[n].to_numpy(), statistics, normal) for n in ("nll", "padim")]
    expected = np.mean([standardise(s, s[normal], "") for s in parts], axis=0)
    found = pred_score(fused, Method.FUSION, FLOW, statistics)
    assert found == pytest.approx(expected, abs=1e-9)
    # A member may be corrected itself.
    members[0] = members[0].model_copy(update={"score": FLOW})
    again = fused_table([scores, scores], members, statistics)
    assert again["flow"].to_numpy() == pytest.approx(parts[0], abs=1e-9)


def test_the_correction_sees_validation_normals_only(scores, statistics):
    before = pred_score(scores, Method.FLOW, FLOW, statistics)
    others = ~normals_of(scores)
    scores.loc[others, "nll"] += 100.0
    scores.loc[others, "gt_label"] = 1
    after = pred_score(scores, Method.FLOW, FLOW, statistics)
    assert after[~others].tolist() == before[~others].tolist()
    assert (after - before)[others] == pytest.approx(100)


def test_a_constant_measure_counts_not(scores, statistics):
    found = pred_score(scores, Method.FLOW, FLOW, statistics.assign(high_gradient=12.5))
    bits, normal = statistics["compressed_bits"], normals_of(scores)
    fit = stats.linregress(bits[normal], scores["nll"][normal])
    expected = scores["nll"] - fit.intercept - fit.slope * bits
    assert found == pytest.approx(expected.to_numpy(), abs=1e-9)


def test_nothing_is_left_of_what_the_measures_explain(scores, statistics):
    assert not pred_score(statistics, Method.GRADIENT, FLOW, statistics).any()
    scores["nll"] = 300 - 2 * statistics["compressed_bits"] + 7 * statistics["high_gradient"]
    assert not pred_score(scores, Method.FLOW, FLOW, statistics).any()


def test_wrong_input_is_named(scores, statistics):
    with pytest.raises(DataError, match="Image '005' has no complexity"):
        pred_score(scores, Method.FLOW, FLOW, statistics.drop(index=5))
    with pytest.raises(DataError, match="gradient has no column compressed_bits"):
        pred_score(scores, Method.FLOW, FLOW, statistics.drop(columns="compressed_bits"))
    with pytest.raises(DataError, match="needs 4 or more validation normals, there are 3"):
        pred_score(scores[76:], Method.FLOW, FLOW, statistics)
    with pytest.raises(ValueError, match="needs the score table of method gradient"):
        pred_score(scores, Method.FLOW, FLOW)
