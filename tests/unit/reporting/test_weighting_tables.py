"""The tables and the figure of the sweep over beta, from score tables small enough to check."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from sklearn.metrics import roc_auc_score

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.judging.weighting import weighting_sweep
from aeflow.questions.results import write_table
from aeflow.questions.weighting import (
    SWEEP_COLUMNS,
    WEIGHTING_COLUMNS,
    average_categories,
    read_sweep,
    read_weighting,
    sweep_table,
    weighting_display,
    weighting_table,
)
from aeflow.questions.weighting_figure import plot_weighting
from aeflow.scoring.combine import pred_score
from aeflow.study.cells import Cell, pack_cells
from aeflow.study.settings import ScoreSettings
from tests.unit.cell_scores import save_scores
from tests.unit.reporting.test_scripts import run

BETAS = [0.0, 0.3, 0.6, 0.9, 1.0]


def draw(seed):
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "image_id": [f"{index:03d}" for index in range(120)],
            "split": ["validation"] * 60 + ["test"] * 60,
            "gt_label": np.tile([0, 0, 1], 40),
        }
    )
    table["defect"] = np.where(table["gt_label"] == 1, "crack", "good")
    for name, scale in (("density", 0.1), ("nll", 1.0), ("ssim", 0.1), ("mse", 0.01)):
        table[name] = scale * (generator.normal(size=120) + 0.8 * table["gt_label"])
    return table


def swept(tables, betas=BETAS):
    """Sweep {(category, seed): score table} of one variant."""
    return [
        weighting_sweep(table, betas).assign(
            dataset="tiles", category=category, variant="aeflow", seed=seed
        )
        for (category, seed), table in tables.items()
    ]


@pytest.fixture
def tables():
    return {(c, s): draw(10 * s + n) for n, c in enumerate(["01", "02"]) for s in (0, 1, 2)}


@pytest.fixture
def per_seed(tables):
    return average_categories(swept(tables))


def test_a_row_of_the_sweep_is_mean_and_sd_over_seeds_of_the_mean_over_categories(
    tables, per_seed
):
    sweep = sweep_table(per_seed)
    assert list(sweep.columns) == SWEEP_COLUMNS
    assert len(sweep) == 2 * 2 * 2 * len(BETAS)
    score = ScoreSettings(flow="nll", reconstruction="mse", scaling="standardised", beta=0.3)
    for split, name in (("validation", "val_auroc"), ("test", "test_auroc")):
        aurocs = np.zeros((3, 2))
        for (category, seed), table in tables.items():
            rows = table["split"] == split
            scores = pred_score(table, Method.AEFLOW, score)
            direct = roc_auc_score(table["gt_label"][rows], scores[rows])
            aurocs[seed, int(category) - 1] = direct
        (row,) = sweep.query(
            "flow == 'nll' and reconstruction == 'mse' and scaling == 'standardised'"
            " and beta == 0.3"
        ).to_dict("records")
        assert row[f"{name}_mean"] == pytest.approx(aurocs.mean(axis=1).mean())
        assert row[f"{name}_sd"] == pytest.approx(aurocs.mean(axis=1).std(ddof=1))
        assert row["n_seeds"] == 3


def test_every_seed_chooses_once_for_all_categories():
    rows = [
        # seed, beta, category, validation, test
        *[(0, 0.0, "a", 0.6, 0.5), (0, 0.0, "b", 0.8, 0.5)],  # mean 0.7
        *[(0, 0.9, "a", 0.9, 0.6), (0, 0.9, "b", 0.7, 0.8)],  # mean 0.8: chosen
        *[(0, 1.0, "a", 0.5, 0.9), (0, 1.0, "b", 0.9, 0.9)],  # mean 0.7, the best on test
        *[(1, 0.0, "a", 0.9, 0.4), (1, 0.0, "b", 0.9, 0.6)],  # chosen
        *[(1, 0.9, "a", 0.6, 0.7), (1, 0.9, "b", 0.6, 0.7)],
        *[(1, 1.0, "a", 0.5, 0.8), (1, 1.0, "b", 0.5, 0.8)],
    ]
    sweep = pd.DataFrame(rows, columns=["seed", "beta", "category", "val_auroc", "test_auroc"])
    sweep = sweep.assign(dataset="d", variant="v", flow="nll", reconstruction="mse", scaling="raw")
    table = weighting_table(average_categories([sweep.assign(reason="")]))
    assert list(table.columns) == WEIGHTING_COLUMNS
    (row,) = table.to_dict("records")
    expected = {
        **{"beta_mean": 0.45, "beta_sd": 0.9 / np.sqrt(2)},
        **{"val_auroc_mean": 0.85, "test_auroc_mean": 0.6, "test_auroc_sd": 0.2 / np.sqrt(2)},
        **{"paper_test_auroc_mean": 0.7, "reconstruction_only_test_auroc_mean": 0.5},
        **{"flow_only_test_auroc_mean": 0.85, "flow_only_val_auroc_mean": 0.6},
        **{"oracle_beta_mean": 1.0, "oracle_test_auroc_mean": 0.85},
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_no_choice_but_the_oracles_sees_test_labels(tables, per_seed):
    for table in tables.values():
        test = table["split"] == "test"
        mixed = np.random.default_rng(7).permutation(table.loc[test, "gt_label"])
        table.loc[test, "gt_label"] = mixed
    before, after = (weighting_table(t) for t in (per_seed, average_categories(swept(tables))))
    for column in ("beta_mean", "beta_sd", "val_auroc_mean", "paper_val_auroc_mean"):
        pd.testing.assert_series_equal(before[column], after[column])
    assert not before["test_auroc_mean"].equals(after["test_auroc_mean"])
    assert not before["oracle_beta_mean"].equals(after["oracle_beta_mean"])


def test_without_validation_anomalies_there_is_a_reason_instead_of_a_choice(tables):
    first = next(iter(tables))
    found = tables[first]
    tables[first] = found[(found["split"] == "test") | (found["gt_label"] == 0)].reset_index()
    table = weighting_table(average_categories(swept(tables)))
    # The mean over categories and over seeds needs all of them.
    assert table[["beta_mean", "val_auroc_mean", "test_auroc_mean"]].isna().all(axis=None)
    assert table["paper_test_auroc_mean"].notna().all()
    assert table["oracle_beta_mean"].notna().all()
    assert set(table["reason"]) == {"Validation has no anomalous images."}
    display = weighting_display(table)
    assert "Beta" not in display.cells
    assert "Beta (oracle)" in display.cells
    assert set(display.cells["Why empty"]) == {"Validation has no anomalous images."}
    assert not display.bold.to_numpy().any()


def test_the_table_for_people(per_seed):
    table = weighting_table(per_seed)
    display = weighting_display(table)
    best = table["val_auroc_mean"].round(3).eq(table["val_auroc_mean"].round(3).max())
    assert display.bold["AUROC, test"].tolist() == best.tolist()
    row, cells = table.iloc[3], display.cells.iloc[3]
    mean, sd = (100 * row[f"oracle_test_auroc_{what}"] for what in ("mean", "sd"))
    assert cells["AUROC, test (oracle)"] == f"{mean:.1f} ± {sd:.1f}"
    assert cells["Beta"].startswith(f"{row['beta_mean']:.2f}")
    assert "by test labels" in display.note
    same = table.assign(beta_mean=0.9, beta_sd=0.0)
    assert set(weighting_display(same).cells["Beta"]) == {"0.90"}


def test_tables_survive_the_files(per_seed, tmp_path):
    for name, table, read in (
        ("weighting.csv", weighting_table(per_seed), read_weighting),
        ("weighting_sweep.csv", sweep_table(per_seed), read_sweep),
    ):
        table = table.assign(variant="NA")
        write_table(table, tmp_path / name)
        found = read(tmp_path / name)
        assert set(found["variant"]) == {"NA"}
        pd.testing.assert_frame_equal(
            found.drop(columns="reason"), table.drop(columns="reason"), check_dtype=False
        )
        write_table(table.drop(columns="n_seeds"), tmp_path / name)
        with pytest.raises(DataError, match="run sweep_weighting again"):
            read(tmp_path / name)


def test_the_figure_has_every_curve_and_mark(per_seed):
    sweep, table = sweep_table(per_seed), weighting_table(per_seed)
    figure = plot_weighting("tiles", sweep, table).figure
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        f"aeflow: S_recon = {r}, {s}" for s in ("raw", "standardised") for r in ("ssim", "mse")
    ]
    (row,) = table.query(
        "flow == 'nll' and reconstruction == 'mse' and scaling == 'standardised'"
    ).to_dict("records")
    own = [line for line in figure.axes[3].lines if to_rgba(line.get_color()) == to_rgba("C2")]
    solid, dashed, chosen, oracle = own
    expected = sweep.query(
        "flow == 'nll' and reconstruction == 'mse' and scaling == 'standardised'"
    )
    np.testing.assert_allclose(solid.get_ydata(), 100 * expected["test_auroc_mean"])
    np.testing.assert_allclose(dashed.get_ydata(), 100 * expected["val_auroc_mean"])
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    for mark, x, y in (
        (chosen, "beta", "test_auroc"),
        (oracle, "oracle_beta", "oracle_test_auroc"),
    ):
        np.testing.assert_allclose(
            mark.get_xydata()[0], [row[f"{x}_mean"], 100 * row[f"{y}_mean"]]
        )


def test_figures_without_a_class_a_second_seed_or_a_sweep(tables, tmp_path):
    one = {key: table for key, table in tables.items() if key == ("01", 0)}
    per_seed = average_categories(swept(one))
    plot_weighting("tiles", sweep_table(per_seed), weighting_table(per_seed)).save(
        tmp_path / "one.png", tmp_path / "one.svg"
    )
    table = one["01", 0]
    no_anomalies = table[(table["split"] == "test") | (table["gt_label"] == 0)].reset_index()
    per_seed = average_categories(swept({("01", 0): no_anomalies}))
    figure = plot_weighting("tiles", sweep_table(per_seed), weighting_table(per_seed)).figure
    assert len(figure.axes) == 4
    normals = table[table["gt_label"] == 0].reset_index()
    per_seed = average_categories(swept({("01", 0): normals}))
    figure = plot_weighting("tiles", sweep_table(per_seed), weighting_table(per_seed)).figure
    assert "Test has no anomalous images" in figure.axes[0].texts[0].get_text()
    figure = plot_weighting("other", sweep_table(per_seed), weighting_table(per_seed)).figure
    assert "no variant of the method aeflow" in figure.axes[0].texts[0].get_text()


def test_the_script_adds_the_betas_that_the_table_names(tables, tmp_path):
    cells = [Cell("tiles", category, "aeflow", seed) for category, seed in tables]
    for cell in cells:
        save_scores(tmp_path, cell, tables[cell.category, cell.seed])
    names = {"sweep": "weighting_sweep.csv"} | {e: f"weighting.{e}" for e in ("csv", "md", "tex")}
    outputs = [item for key, name in names.items() for item in (f"--{key}", tmp_path / name)]
    for packed, rows in ((pack_cells(cells), 8), (pack_cells([]), 0)):
        run(
            *["sweep_weighting", "--folder", tmp_path, "--cells", packed],
            *["--betas", json.dumps([0.25, 0.5]), *outputs],
        )
        assert len(read_weighting(tmp_path / "weighting.csv")) == rows
        sweep = read_sweep(tmp_path / "weighting_sweep.csv")
        assert sorted(set(sweep["beta"])) == ([0, 0.25, 0.5, 0.9, 1] if rows else [])
    assert "no variant of the method aeflow" in (tmp_path / "weighting.md").read_text()
    figures = [tmp_path / "figure.png", tmp_path / "figure.svg"]
    run(
        *["plot_weighting", "--dataset", "tiles", "--sweep", tmp_path / "weighting_sweep.csv"],
        *["--chosen", tmp_path / "weighting.csv", "--png", figures[0], "--svg", figures[1]],
    )
    assert all(path.stat().st_size for path in figures)
