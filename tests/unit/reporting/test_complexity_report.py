import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from aeflow.questions.complexity import (
    COMBINED,
    CORRECTED_COLUMNS,
    CORRELATION_COLUMNS,
    corrected_display,
    corrected_table,
    correction_of_run,
    correlations_display,
    correlations_of_run,
    correlations_table,
    read_corrected,
    read_correlations,
)
from aeflow.questions.complexity_figures import plot_complexity
from aeflow.questions.results import write_table
from aeflow.scoring.complexity import MEASURES, complexity_corrected


@pytest.fixture
def complexity(scores):
    generator = np.random.default_rng(7)
    found = scores[["image_id"]].copy()
    found["compressed_bits"] = generator.uniform(1, 6, len(scores)) + scores["density"]
    found["mean_gradient"] = generator.uniform(5, 30, len(scores))
    return found


@pytest.fixture
def gradient(make_run, scores, complexity):
    """The run of the trivial baseline, and its score table."""
    table = scores[["image_id", "split", "gt_label", "defect"]].copy()
    table["low_gradient"] = -complexity["mean_gradient"]
    return make_run(variant="gradient", method="gradient"), table


def z(values, normals):
    return stats.zmap(values, values[normals])


def test_correlations_equal_scipy(scored_run, scores, complexity):
    found = correlations_of_run(scored_run, scores, complexity, parts=True)
    assert set(found["component"]) == {"density", "nll", "ssim", "mse", COMBINED}
    normals = ((scores["split"] == "validation") & (scores["gt_label"] == 0)).to_numpy()
    columns = {name: scores[name].to_numpy() for name in ("density", "nll", "ssim", "mse")}
    columns[COMBINED] = 0.9 * z(columns["density"], normals) + 0.1 * z(columns["ssim"], normals)
    kept = ((scores["split"] == "test") & (scores["gt_label"] == 0)).to_numpy()
    for row in found[found["images"] == "normal"].itertuples():
        expected = stats.spearmanr(columns[row.component][kept], complexity[row.measure][kept])
        assert row.spearman == pytest.approx(expected.statistic, abs=1e-12)
        assert (row.n, row.variant) == (30, "aeflow")
    alone = correlations_of_run(scored_run, scores, complexity, parts=False)
    assert set(alone["component"]) == {COMBINED}


def test_corrected_auroc_equals_scikit_learn(scored_run, scores, complexity):
    found = correction_of_run(scored_run, scores, complexity)
    normals = ((scores["split"] == "validation") & (scores["gt_label"] == 0)).to_numpy()
    measures = complexity[list(MEASURES)].to_numpy()
    residuals = {}
    for name in ("density", "ssim"):
        fit = LinearRegression().fit(measures[normals], scores[name][normals])
        residuals[name] = (scores[name] - fit.predict(measures)).to_numpy()
    combined = 0.9 * z(residuals["density"], normals) + 0.1 * z(residuals["ssim"], normals)
    for key, split in (("corrected_auroc", "test"), ("corrected_val_auroc", "validation")):
        rows = (scores["split"] == split).to_numpy()
        expected = roc_auc_score(scores["gt_label"][rows], combined[rows])
        assert found[key] == pytest.approx(expected, abs=1e-12)
    assert found["image_auroc"] == scored_run["image_auroc"]
    assert found["difference"] == found["corrected_auroc"] - found["image_auroc"]
    assert found["reason"] == ""


def test_test_labels_change_no_correction(scores, complexity):
    permuted = scores.copy()
    test = (scores["split"] == "test").to_numpy()
    permuted.loc[test, "gt_label"] = 1 - scores["gt_label"][test]
    names = ["density", "nll", "ssim", "mse"]
    before, after = (complexity_corrected(t, complexity)[names] for t in (scores, permuted))
    pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_nothing_is_left_of_a_measure_of_complexity(gradient, complexity):
    run, table = gradient
    assert complexity_corrected(table, complexity)["low_gradient"].tolist() == [0.0] * 120
    found = correction_of_run(run, table, complexity)
    assert np.isnan(found["corrected_auroc"])
    assert "nothing is left to rank by" in found["reason"]
    expected = roc_auc_score(table["gt_label"][50:], table["low_gradient"][50:])
    assert found["image_auroc"] == pytest.approx(expected)


def test_too_few_validation_normals_are_a_reason(scored_run, scores, complexity):
    few = scores[27:]
    found = correction_of_run(scored_run, few, complexity)
    assert "4 or more validation normals, there are 3" in found["reason"]
    assert np.isnan(found["corrected_auroc"])
    assert np.isfinite(found["image_auroc"])


def test_a_single_class_has_no_auroc(make_run, scored_run, scores, complexity):
    lone = scores[(scores["split"] == "validation") | (scores["gt_label"] == 1)]
    run = scored_run | {"reasons": {"image_auroc": "Test has no normal images."}}
    found = correction_of_run(run, lone, complexity)
    assert np.isnan(found["image_auroc"])
    assert np.isnan(found["corrected_auroc"])
    assert found["reason"] == "Test has no normal images."


def test_categories_are_averaged_first_then_seeds(scored_run):
    def row(seed, category, auroc):
        keys = {"dataset": "tiles", "category": category, "variant": "aeflow", "seed": seed}
        numbers = {"image_auroc": auroc, "corrected_auroc": auroc + 0.1, "difference": 0.1}
        missing = dict.fromkeys(("val_auroc", "corrected_val_auroc"), np.nan)
        return keys | numbers | missing | {"method": "aeflow", "reason": ""}

    rows = [row(0, "a", 0.5), row(0, "b", 0.7), row(1, "a", 0.6), row(1, "b", 0.8)]
    (found,) = corrected_table(rows).itertuples()
    assert found.image_auroc_mean == pytest.approx(0.65)
    assert found.image_auroc_sd == pytest.approx(0.1 / 2**0.5)
    assert (found.n_seeds, found.reason) == (2, "")
    assert np.isnan(found.val_auroc_mean)

    def part(seed, category, spearman, reason=""):
        keys = {"dataset": "tiles", "category": category, "variant": "aeflow", "seed": seed}
        what = {"component": "nll", "measure": "mean_gradient", "images": "normal", "n": 10}
        return pd.DataFrame([keys | what | {"spearman": spearman, "reason": reason}])

    parts = [part(0, "a", 0.2), part(0, "b", 0.4), part(1, "a", 0.5), part(1, "b", 0.7)]
    (mean,) = correlations_table(parts).itertuples()
    assert mean.spearman_mean == pytest.approx(0.45)
    assert (mean.n, mean.n_seeds) == (20, 2)
    parts[3] = part(1, "b", np.nan, "No ranks.")
    (empty,) = correlations_table(parts).itertuples()
    assert np.isnan(empty.spearman_mean)
    assert empty.reason == "No ranks."


@pytest.fixture
def tables(scored_run, scores, complexity, gradient):
    runs = [(scored_run, scores), (scored_run | {"seed": 1}, scores), gradient]
    return (
        correlations_table([correlations_of_run(*run, complexity, parts=True) for run in runs]),
        corrected_table([correction_of_run(*run, complexity) for run in runs]),
    )


def test_tables_are_read_as_written(tables, tmp_path):
    correlations, corrected = tables
    assert list(correlations.columns) == CORRELATION_COLUMNS
    assert list(corrected.columns) == CORRECTED_COLUMNS
    write_table(correlations, tmp_path / "a.csv")
    write_table(corrected, tmp_path / "b.csv")
    read = read_correlations(tmp_path / "a.csv"), read_corrected(tmp_path / "b.csv")
    assert (
        correlations_display(read[0]).markdown() == correlations_display(correlations).markdown()
    )
    assert corrected_display(read[1]).markdown() == corrected_display(corrected).markdown()


def test_tables_for_people(tables):
    correlations, corrected = tables
    shown = correlations_display(correlations)
    low = shown.cells[shown.cells["Component"] == "low_gradient"].iloc[0]
    assert low["mean gradient, normal"] == "-1.00"
    assert len(shown.cells) == 5 + 2
    text = corrected_display(corrected).markdown()
    assert "nothing is left to rank by" in text
    assert r"\begin{longtable}" in corrected_display(corrected).latex()


def test_the_figure_shows_both_measures_and_both_aurocs(tables):
    correlations, corrected = tables
    left, right = plot_complexity("tiles", correlations, corrected).figure.axes
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels == ["aeflow", "density", "nll", "ssim", "mse", "gradient", "low_gradient"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["aeflow", "gradient"]
    assert "no corrected score" in right.texts[0].get_text()
    before = right.containers[0].lines[0].get_xdata()
    assert before == pytest.approx(100 * corrected["image_auroc_mean"])


def test_a_figure_without_numbers_has_words(tables):
    correlations, corrected = (table.assign() for table in tables)
    correlations["spearman_mean"] = np.nan
    corrected["image_auroc_mean"] = np.nan
    left, right = plot_complexity("tiles", correlations, corrected).figure.axes
    assert "no correlation" in left.texts[0].get_text()
    assert "one class" in right.texts[0].get_text()
