"""The comparison table against hand calls of the tests behind it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from aeflow.core.errors import DataError
from aeflow.judging.delong import compare_aurocs, mean_comparison
from aeflow.questions.results import write_table
from aeflow.questions.variants import (
    COMPARISON_COLUMNS,
    comparison_display,
    comparison_table,
    p_text,
    read_comparison,
)
from aeflow.scoring.predictions import SeedScores

LABELS = {"a": np.repeat([0, 1], [40, 30]), "b": np.repeat([0, 1], [25, 50])}


def seed_scores(gt_label, shift, seeds, number):
    generator = np.random.default_rng(number)
    score = generator.normal(size=(len(gt_label), seeds)) + shift * gt_label[:, None]
    images = pd.DataFrame({"image_id": range(len(gt_label)), "gt_label": gt_label})
    return SeedScores(images, score)


def variant(shift, number, seeds=3, labels=LABELS):
    return {
        name: seed_scores(gt_label, shift, seeds, 10 * number + k)
        for k, (name, gt_label) in enumerate(labels.items())
    }


@pytest.fixture
def scored():
    return {
        "tiles": {
            "whole": variant(1.5, 1),
            "part": variant(0.9, 2),
            "other": variant(1.4, 3),
            "gradient": variant(0.2, 4, seeds=1),
        }
    }


def test_a_row_is_the_test_of_the_mean_over_seeds_and_categories(scored):
    table = comparison_table(scored, "whole")
    assert list(table.columns) == COMPARISON_COLUMNS
    assert table["variant"].tolist() == ["whole", "part", "other", "gradient"]
    row = table.set_index("variant").loc["part"]
    first, second = scored["tiles"]["part"], scored["tiles"]["whole"]
    by_hand = mean_comparison(
        [compare_aurocs(LABELS[c], first[c].score, second[c].score) for c in "ab"]
    )
    aurocs = {
        name: np.array(
            [[roc_auc_score(LABELS[c], s) for s in part[c].score.T] for c in "ab"]
        ).mean(axis=0)
        for name, part in (("part", first), ("whole", second))
    }
    assert row["auroc"] == pytest.approx(aurocs["part"].mean())
    assert row["reference_auroc"] == pytest.approx(aurocs["whole"].mean())
    assert [row["difference"], row["low"], row["high"], row["z"], row["p_value"]] == [
        by_hand.difference,
        by_hand.low,
        by_hand.high,
        by_hand.z,
        by_hand.p_value,
    ]
    differences = aurocs["part"] - aurocs["whole"]
    ends = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert [row["seed_low"], row["seed_high"]] == pytest.approx(list(ends))
    assert row["seed_mean"] == pytest.approx(differences.mean())
    assert row["seed_sd"] == pytest.approx(differences.std(ddof=1))
    assert (row["n_seeds"], row["reason"]) == (3, "")


def test_holm_counts_the_tests_of_one_dataset(scored):
    scored["others"] = {name: scored["tiles"][name] for name in ("whole", "other")}
    table = comparison_table(scored, "whole")
    p_value, corrected = table["p_value"].to_numpy(), table["p_holm"].to_numpy()
    assert np.isnan(corrected[[0, 4]]).all()
    order = 1 + np.argsort(p_value[1:4])
    expected = np.maximum.accumulate(p_value[order] * [3, 2, 1])
    assert corrected[order] == pytest.approx(np.minimum(expected, 1))
    assert corrected[5] == p_value[5]


def test_a_method_without_seeds_may_be_either_side(scored):
    forward = comparison_table(scored, "whole").set_index("variant").loc["gradient"]
    backward = comparison_table(scored, "gradient").set_index("variant").loc["whole"]
    for name in ("difference", "seed_mean", "z"):
        assert forward[name] == pytest.approx(-backward[name])
    assert forward["p_value"] == pytest.approx(backward["p_value"])
    assert (forward["n_seeds"], backward["n_seeds"]) == (3, 3)


def test_what_cannot_be_tested_has_a_reason(scored):
    few = {"a": np.array([0, 0, 1])}
    none = {"a": np.array([0, 0, 0])}
    table = comparison_table(
        {
            "tiles": {"x": variant(1, 1, seeds=1), "y": variant(1, 2, seeds=1)},
            "few": {"x": variant(1, 1, labels=few), "y": variant(1, 2, labels=few)},
            "none": {"x": variant(1, 1, labels=none), "y": variant(1, 2, labels=none)},
            "away": {"y": variant(1, 1)},
        },
        "x",
    ).set_index(["dataset", "variant"])
    assert table.loc[("tiles", "y"), "reason"] == "One seed has no interval over seeds."
    assert table.loc[("tiles", "y"), ["seed_sd", "seed_low"]].isna().all()
    assert "2 normal and 2 anomalous images" in table.loc[("few", "y"), "reason"]
    assert table.loc[("few", "y"), ["z", "p_holm"]].isna().all()
    assert not np.isnan(table.loc[("few", "y"), "difference"])
    assert table.loc[("none", "y"), "reason"] == "There are no anomalous images."
    assert np.isnan(table.loc[("none", "y"), "auroc"])
    assert table.loc[("away", "y"), "reason"] == "x does not run on this dataset."
    assert not np.isnan(table.loc[("away", "y"), "auroc"])


def test_the_table_for_people_and_back(scored, tmp_path):
    table = comparison_table(scored, "whole")
    write_table(table, tmp_path / "comparison.csv")
    again = read_comparison(tmp_path / "comparison.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    shown = comparison_display(again)
    assert shown.cells["Variant"].tolist() == ["part", "other", "gradient"]
    significant = (table["p_holm"] < 0.05)[1:].tolist()
    assert shown.bold["Difference"].tolist() == significant
    assert set(significant) == {True, False}
    assert "Holm" in shown.markdown()
    (tmp_path / "comparison.csv").write_text("dataset\n")
    with pytest.raises(DataError, match="other columns"):
        read_comparison(tmp_path / "comparison.csv")


def test_a_single_variant_says_so(scored, tmp_path):
    one = comparison_table({"tiles": {"whole": scored["tiles"]["whole"]}}, "whole")
    assert "no second variant" in comparison_display(one).note
    write_table(comparison_table({}, "whole"), tmp_path / "comparison.csv")
    assert read_comparison(tmp_path / "comparison.csv").empty


def test_p_values_are_short():
    assert [p_text(p) for p in (0.0004, 0.0123, 0.099, 0.5, 1.0, np.nan)] == [
        *["<0.001", "0.012", "0.099", "0.50", "1.00", ""]
    ]
