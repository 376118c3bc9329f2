"""Scores from components: weights, standardisation, fusion, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.scoring.combine import (
    check_same_images,
    fused_table,
    pred_score,
    standardise,
    standardised_members,
)
from aeflow.scoring.score_tables import read_scores, write_scores
from aeflow.study.asked import FuseAsked, MemberAsked
from aeflow.study.settings import ScoreSettings
from scripts.fuse_scores import fuse_scores


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


@pytest.mark.parametrize("flow", ["local_energy_top", "local_nll_top"])
def test_a_top_is_the_column_of_the_share_that_was_asked_for(table, flow):
    names = [f"{name}_{share}" for name in (flow, "residual_top") for share in ("0.01", "0.5")]
    for number, name in enumerate(names):
        table[name] = table["nll"] * 10**number
    score = {"flow": flow, "reconstruction": "residual_top", "beta": 0.5}
    for share, factor in ((0.01, 0.5 * 1 + 0.5 * 100), (0.5, 0.5 * 10 + 0.5 * 1000)):
        found = pred_score(table, Method.AEFLOW, ScoreSettings(**score, top_share=share))
        assert found.tolist() == pytest.approx((factor * table["nll"]).tolist())
    with pytest.raises(DataError, match=rf"no column '{flow}_0\.03'"):
        pred_score(table, Method.AEFLOW, ScoreSettings(**score))


@pytest.mark.parametrize("name", ["fastflow", "patchcore", "padim", "ganomaly", "gradient"])
def test_a_method_of_one_column_is_that_column_as_it_is(table, name):
    column = "low_gradient" if name == "gradient" else name
    table[column] = [300.0, 301.0, 299.0, 305.0, 300.5, 304.0]
    score = ScoreSettings(beta=0.1, scaling="standardised")
    assert pred_score(table, Method(name), score).tolist() == table[column].tolist()
    with pytest.raises(DataError, match=f"no column '{column}'"):
        pred_score(table.drop(columns=column), Method(name), score)


@pytest.mark.parametrize(
    ("method", "beta", "kept", "dropped"),
    [
        ("aeflow", 1, "density", "ssim"),
        ("aeflow", 0, "ssim", "density"),
        ("flow", 0.3, "density", "ssim"),
        ("gaussian", 0.3, "density", "ssim"),
        ("autoencoder", 0.3, "ssim", "density"),
    ],
)
def test_component_of_weight_zero_is_not_read(table, method, beta, kept, dropped):
    found = pred_score(table.drop(columns=dropped), Method(method), ScoreSettings(beta=beta))
    assert found.tolist() == table[kept].tolist()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", ""])
def test_component_that_is_no_finite_number_names_image_and_column(table, value):
    table["density"] = table["density"].astype(str).replace("-0.4", value)
    with pytest.raises(DataError, match=f"Image 'e' has density = {value},.*1 such image"):
        pred_score(table, Method.AEFLOW, ScoreSettings())


def test_missing_component_lists_the_columns(table):
    with pytest.raises(DataError, match=r"no column 'latent_energy' \(columns: image_id, .*nll"):
        pred_score(table, Method.AEFLOW, ScoreSettings(flow="latent_energy"))


def test_what_has_no_scale_cannot_be_standardised(table):
    constant = table["mse"].to_numpy()
    assert constant[:3].std() > 0  # the trap: three times 0.1 has an sd of 1e-17
    score = ScoreSettings(reconstruction="mse", scaling="standardised")
    with pytest.raises(DataError, match=r"'mse' is 0\.1 on all 3 validation normals"):
        pred_score(table, Method.AEFLOW, score)
    with pytest.raises(DataError, match="'density' takes 2 or more validation normals"):
        pred_score(table[3:], Method.AEFLOW, score)


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
def test_tables_have_the_same_images(table, change, message):
    with pytest.raises(DataError, match=message):
        check_same_images([table, change(table)])
    member = MemberAsked(name="a", method="flow", score=ScoreSettings())
    with pytest.raises(DataError, match=message):
        fused_table([table, change(table)], [member, member.model_copy(update={"name": "b"})])


def draw(seed, scale=1.0):
    """A seed's score table: the same 100 images, other scores."""
    generator = np.random.default_rng(seed)
    gt_label = np.tile([0, 0, 0, 1, 1], 20)
    table = pd.DataFrame(
        {
            "image_id": [f"{index:03d}" for index in range(100)],
            "split": ["validation"] * 40 + ["test"] * 60,
            "gt_label": gt_label,
            "defect": np.where(gt_label == 1, "NA", "good"),
        }
    )
    for name in ("nll", "mse", "low_gradient"):
        table[name] = scale * (generator.normal(size=100) + gt_label)
    return table


def seeds_asked(count, **score):
    settings = ScoreSettings(flow="nll", reconstruction="mse", **score)
    return [MemberAsked(name=f"seed{k}", method="aeflow", score=settings) for k in range(count)]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("score", [{"beta": 0.5}, {"scaling": "standardised"}])
def test_a_fusion_of_seeds_is_the_deep_ensemble_bit_for_bit(count, score):
    tables = [draw(seed, scale=10.0**seed) for seed in range(count)]
    asked = seeds_asked(count, **score)
    fused = fused_table(tables, asked)
    # The ensemble, as it was computed when it was no variant.
    raw = np.column_stack([pred_score(t, Method.AEFLOW, asked[0].score) for t in tables])
    normal = (tables[0]["split"] == "validation") & (tables[0]["gt_label"] == 0)
    members = np.column_stack([standardise(s, s[normal.to_numpy()], "score") for s in raw.T])
    found = pred_score(fused, Method.FUSION, ScoreSettings())
    assert found.tolist() == members.mean(axis=1).tolist()
    spread = standardised_members(fused, ScoreSettings()).std(axis=1, ddof=1)
    assert spread.tolist() == members.std(axis=1, ddof=1).tolist()
    # And by definition.
    assert found == pytest.approx(stats.zmap(raw, raw[normal]).mean(axis=1))


def test_the_script_fuses_other_variants(tmp_path):
    tables, paths = [draw(0), draw(1, scale=1e4)], [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, table in zip(paths, tables, strict=True):
        write_scores(path, table)
    asked = FuseAsked(
        members=[
            MemberAsked(name="flow", method="flow", score=ScoreSettings(flow="nll")),
            MemberAsked(name="low", method="gradient", score=ScoreSettings()),
        ]
    )
    assert fuse_scores(asked, paths, None, tmp_path / "fused.csv") == {"pixel": {}}
    fused = read_scores(tmp_path / "fused.csv")
    assert list(fused.columns[4:]) == ["flow", "low"]
    assert set(fused["defect"]) == {"NA", "good"}
    columns = np.column_stack([tables[0]["nll"], tables[1]["low_gradient"]])
    normal = (fused["split"] == "validation") & (fused["gt_label"] == 0)
    expected = stats.zmap(columns, columns[normal]).mean(axis=1)
    found = pred_score(fused, Method.FUSION, ScoreSettings())
    assert found == pytest.approx(expected, abs=1e-5)  # seven digits
    # Test labels change no score.
    fused.loc[fused["split"] == "test", "gt_label"] ^= 1
    assert pred_score(fused, Method.FUSION, ScoreSettings()).tolist() == found.tolist()


def test_a_constant_member_has_no_scale():
    fused = fused_table([draw(0), draw(1).assign(nll=0.5, mse=0.5)], seeds_asked(2))
    with pytest.raises(DataError, match=r"'seed1' is 0\.5 on all 24 validation normals"):
        pred_score(fused, Method.FUSION, ScoreSettings())
