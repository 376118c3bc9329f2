"""The sweep over beta against one cell after the other, judged by scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from aeflow.core.errors import DataError
from aeflow.core.types import FlowScore, Method, ReconstructionScore
from aeflow.judging.weighting import chosen_betas, weighting_sweep
from aeflow.scoring.combine import pred_score
from aeflow.study.settings import ScoreSettings

BETAS = [0, 0.37, 0.9, 1]


def draw(seed, decimals=None):
    """A score table of 90 images with every component; few decimals make ties."""
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "image_id": [f"{index:03d}" for index in range(90)],
            "split": ["validation"] * 40 + ["test"] * 50,
            "gt_label": generator.integers(0, 2, size=90),
        }
    )
    table["defect"] = np.where(table["gt_label"] == 1, "crack", "good")
    for number, name in enumerate([*FlowScore, *ReconstructionScore]):
        values = generator.normal(size=90) + 0.2 * number * table["gt_label"]
        table[name.value] = 10.0 ** (number - 3) * (
            values if decimals is None else values.round(decimals)
        )
    return table


def sweep_of(rows):
    """A sweep of one kind of score from (beta, val_auroc, test_auroc)."""
    sweep = pd.DataFrame(rows, columns=["beta", "val_auroc", "test_auroc"])
    sweep.insert(0, "flow", "nll")
    return sweep.assign(reason="")


@pytest.mark.parametrize("decimals", [None, 0])
def test_every_cell_equals_the_direct_computation(decimals):
    table = draw(0, decimals)
    sweep = weighting_sweep(table, BETAS)
    assert len(sweep) == 5 * 2 * 2 * len(BETAS)
    keys = ["flow", "reconstruction", "scaling", "beta"]
    assert not sweep.duplicated(keys).any()
    test = table["split"] == "test"
    for row in sweep.itertuples():
        score = ScoreSettings(
            flow=row.flow, reconstruction=row.reconstruction, scaling=row.scaling, beta=row.beta
        )
        scores = pred_score(table, Method.AEFLOW, score)
        for rows, found in ((~test, row.val_auroc), (test, row.test_auroc)):
            expected = roc_auc_score(table["gt_label"][rows], scores[rows])
            assert found == pytest.approx(expected, abs=1e-14), row
    assert (sweep["reason"] == "").all()


def test_only_the_definitions_that_were_scored():
    table = draw(1).drop(columns=["mse", "density", "nll", "latent_energy"])
    sweep = weighting_sweep(table, [0.9])
    assert list(sweep["flow"].unique()) == ["local_density_mean", "local_density_max"]
    assert list(sweep["reconstruction"].unique()) == ["ssim"]
    for columns, lacking in ((["ssim", "mse"], "no S_recon"), (list(FlowScore), "no S_flow")):
        left = draw(1).drop(columns=[str(name) for name in columns])
        with pytest.raises(DataError, match=lacking):
            weighting_sweep(left, [0.9])


def test_a_component_without_scale_is_empty_where_it_weighs():
    table = draw(2)
    table["mse"] = 0.1
    sweep = weighting_sweep(table, [0, 0.5, 1])
    constant = sweep[(sweep["reconstruction"] == "mse") & (sweep["flow"] == "nll")]
    raw, standardised = (constant[constant["scaling"] == s] for s in ("raw", "standardised"))
    assert raw["test_auroc"].notna().all()
    assert raw["test_auroc"].iloc[0] == 0.5
    assert standardised["test_auroc"].isna().tolist() == [True, True, False]
    assert standardised["val_auroc"].isna().tolist() == [True, True, False]
    assert "'mse' is 0.1 on all" in standardised["reason"].iloc[0]
    assert standardised["reason"].iloc[2] == ""
    assert standardised["test_auroc"].iloc[2] == raw["test_auroc"].iloc[2]


def test_a_single_class_gives_no_number_and_says_why():
    table = draw(3)
    table = table[(table["split"] == "test") | (table["gt_label"] == 0)].reset_index(drop=True)
    sweep = weighting_sweep(table, [0.2, 0.9])
    assert sweep["val_auroc"].isna().all()
    assert sweep["test_auroc"].notna().all()
    assert set(sweep["reason"]) == {"Validation has no anomalous images."}
    choice = chosen_betas(sweep)
    assert choice[["beta", "val_auroc", "test_auroc"]].isna().all(axis=None)
    assert choice["oracle_beta"].notna().all()
    assert set(choice["reason"]) == {"Validation has no anomalous images."}


@pytest.mark.parametrize("beta", [-0.1, 1.1, np.nan])
def test_beta_is_a_share(beta):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        weighting_sweep(draw(4), [0.5, beta])


def test_beta_is_chosen_on_validation_and_the_oracle_on_test():
    sweep = sweep_of([(0.0, 0.6, 0.9), (0.5, 0.8, 0.7), (1.0, 0.7, 0.6)])
    (row,) = chosen_betas(sweep).to_dict("records")
    assert row == {
        "flow": "nll",
        "beta": 0.5,
        "val_auroc": 0.8,
        "test_auroc": 0.7,
        "oracle_beta": 0.0,
        "oracle_test_auroc": 0.9,
        "reason": "",
    }


@pytest.mark.parametrize(
    ("betas", "nearest"),
    [([0.0, 0.5, 1.0], 1.0), ([0.1, 0.7, 0.2], 0.7), ([0.85, 0.95], 0.95), ([0.95, 0.85], 0.95)],
)
def test_among_equals_it_is_the_nearest_to_the_papers(betas, nearest):
    (row,) = chosen_betas(sweep_of([(b, 0.8, 0.7) for b in betas])).to_dict("records")
    assert (row["beta"], row["oracle_beta"]) == (nearest, nearest)


def test_the_choice_sees_no_test_label_and_every_seed_chooses_for_itself():
    table = draw(5)
    swapped = table.copy()
    swapped.loc[swapped["split"] == "test", "gt_label"] ^= 1
    sweeps = [
        weighting_sweep(t, BETAS).assign(seed=seed) for seed, t in enumerate([table, swapped])
    ]
    choice = chosen_betas(pd.concat(sweeps))
    assert len(choice) == 2 * 5 * 2 * 2
    first, second = (choice[choice["seed"] == seed].reset_index(drop=True) for seed in (0, 1))
    assert first["beta"].tolist() == second["beta"].tolist()
    assert first["val_auroc"].tolist() == second["val_auroc"].tolist()
    assert (first["test_auroc"] + second["test_auroc"]).tolist() == pytest.approx([1] * 20)
    assert (first["oracle_test_auroc"] >= first["test_auroc"]).all()
