"""Scores from components: the weighted sum, standardisation, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.scoring.combine import pred_score, pred_scores, standardise
from aeflow.study.settings import ScoreSettings


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "image_id": list("abcdef"),
            "split": ["validation"] * 4 + ["test"] * 2,
            "gt_label": [0, 0, 0, 1, 0, 1],
            "defect": ["good"] * 3 + ["hole", "good", "hole"],
            "density": [-0.5, -0.3, -0.1, 0.0, -0.4, -0.2],
            "nll": [1.0, 2.0, 6.0, 9.0, 3.0, 1000.0],
            "ssim": [-1.0, -0.9, -0.5, -0.1, -0.8, -0.4],
            "mse": [0.1] * 6,
            "high_gradient": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "low_gradient": [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0],
        }
    )


def test_raw_score_is_the_weighted_sum(table):
    expected = [-0.55, -0.36, -0.14, -0.01, -0.44, -0.22]  # 0.9 density + 0.1 ssim
    assert pred_score(table, Method.AEFLOW, ScoreSettings()) == pytest.approx(expected)


def test_standardised_score_uses_validation_normals_only(table):
    score = ScoreSettings(flow="nll", scaling="standardised", beta=0.25)
    nll, ssim = table["nll"].to_numpy(), table["ssim"].to_numpy()
    expected = 0.25 * stats.zmap(nll, nll[:3]) + 0.75 * stats.zmap(ssim, ssim[:3])
    before = pred_score(table, Method.AEFLOW, score)
    assert before == pytest.approx(expected)
    table.loc[3:, ["nll", "ssim"]] = [[1e6, 1e6], [-1e6, 0.0], [7.0, 7.0]]
    assert pred_score(table, Method.AEFLOW, score)[:3].tolist() == before[:3].tolist()


@pytest.mark.parametrize("name", ["fastflow", "patchcore", "padim", "ganomaly"])
def test_a_peer_is_one_column_as_it_is(table, name):
    table[name] = [300.0, 301.0, 299.0, 305.0, 300.5, 304.0]
    score = ScoreSettings(beta=0.1, scaling="standardised")
    assert pred_score(table, Method(name), score).tolist() == table[name].tolist()
    with pytest.raises(DataError, match=f"no column '{name}'"):
        pred_score(table.drop(columns=name), Method(name), score)


def test_gradient_is_one_column_as_it_is(table):
    for name in ("high_gradient", "low_gradient"):
        score = ScoreSettings(gradient=name, scaling="standardised")
        assert pred_score(table, Method.GRADIENT, score).tolist() == table[name].tolist()


@pytest.mark.parametrize(
    ("beta", "kept", "dropped"), [(1, "density", "ssim"), (0, "ssim", "density")]
)
def test_component_of_weight_zero_is_not_read(table, beta, kept, dropped):
    score = ScoreSettings(beta=beta)
    found = pred_score(table.drop(columns=dropped), Method.AEFLOW, score)
    assert found.tolist() == table[kept].tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_component_that_is_not_finite_names_image_and_column(table, value):
    table.loc[4, "density"] = value
    with pytest.raises(DataError, match=r"Image 'e' has density = (nan|inf|-inf).*1 such image"):
        pred_score(table, Method.AEFLOW, ScoreSettings())


def test_component_that_is_no_number_names_image_and_column(table):
    table["density"] = table["density"].astype(str).replace("-0.1", "")
    with pytest.raises(DataError, match="Image 'c' has density"):
        pred_score(table, Method.AEFLOW, ScoreSettings())


def test_missing_component_lists_the_columns(table):
    with pytest.raises(DataError, match=r"no column 'latent_energy' \(columns: image_id, .*nll"):
        pred_score(table, Method.AEFLOW, ScoreSettings(flow="latent_energy"))


def test_constant_component_has_no_scale_even_where_its_sd_rounds_above_zero(table):
    constant = table["mse"].to_numpy()
    assert constant[:3].std() > 0  # the trap: three times 0.1 has an sd of 1e-17
    score = ScoreSettings(reconstruction="mse", scaling="standardised")
    with pytest.raises(DataError, match=r"'mse' is 0\.1 on all 3 validation normals"):
        pred_score(table, Method.AEFLOW, score)


def test_standardisation_needs_validation_normals(table):
    score = ScoreSettings(scaling="standardised")
    with pytest.raises(DataError, match="'density' cannot be standardised without"):
        pred_score(table[3:], Method.AEFLOW, score)


def test_standardised_normals_have_mean_0_and_sd_1():
    values = np.random.default_rng(0).normal(300, 0.1, size=500)
    found = standardise(values, values, "nll")
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert found.std() == pytest.approx(1)


def test_seeds_are_columns(table):
    other = table.assign(density=table["density"] / 2)
    found = pred_scores([table, other], Method.AEFLOW, ScoreSettings())
    assert found.shape == (6, 2)
    for column, part in zip(found.T, (table, other), strict=True):
        assert column.tolist() == pred_score(part, Method.AEFLOW, ScoreSettings()).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:-1], "Score table 2 has 5 images and the first has 6"),
        (lambda t: t.assign(image_id=list("abXdef")), "in the image_id of image 'c'"),
        (lambda t: t.assign(gt_label=[0, 0, 0, 1, 1, 1]), "in the gt_label of image 'e'"),
        (lambda t: t.assign(split=["test"] * 6), "in the split of image 'a'"),
        (lambda t: t[::-1], "in the image_id of image 'a'"),
    ],
)
def test_seeds_have_the_same_images(table, change, message):
    with pytest.raises(DataError, match=message):
        pred_scores([table, change(table)], Method.AEFLOW, ScoreSettings())
