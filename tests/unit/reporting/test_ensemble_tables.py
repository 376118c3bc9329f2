"""The tables and the figure of the ensembles, by hand and from score tables."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from aeflow.core.errors import DataError
from aeflow.judging.certainty import no_ensemble, optimal_aurc, risk_coverage
from aeflow.questions.certainty import (
    ENSEMBLE_COLUMNS,
    ensembles_display,
    ensembles_table,
    read_ensembles,
    read_risk,
    risk_table,
)
from aeflow.questions.certainty_figure import optimal_risk, plot_risk
from aeflow.questions.results import write_table
from aeflow.study.cells import Cell, pack_cells
from aeflow.study.entries import DatasetEntry
from tests.unit.cell_scores import save_scores
from tests.unit.reporting.test_scripts import run
from tests.unit.reporting.test_weighting_tables import draw

SETTINGS = {
    "score": {"flow": "nll", "reconstruction": "mse"},
    "threshold": {},
    "evaluation": {"bootstrap_replicates": 0},
}


@pytest.fixture
def evaluated():
    """Two categories of one variant, and one that has no uncertain test image."""
    first = {
        **{"dataset": "tiles", "category": "01", "variant": "aeflow", "n_members": 2, "n_test": 8},
        **{"image_auroc": 0.9, "member_auroc": [0.7, 0.8], "member_auroc_mean": 0.75, "f1": 0.8},
        **{"right_certain": 3, "wrong_certain": 1, "right_uncertain": 2, "wrong_uncertain": 2},
        **{"aurc": 0.3, "aurc_optimal": 0.1, "aurc_excess": 0.2, "reasons": {}},
        "risk": [0.0, 0.0, 1 / 3, 1 / 4, 1 / 5, 2 / 6, 2 / 7, 3 / 8],
    }
    second = first | {
        **{"category": "02", "n_test": 2, "image_auroc": 0.7, "member_auroc": [0.9, 0.6]},
        **{"right_certain": 2, "wrong_certain": 0, "right_uncertain": 0, "wrong_uncertain": 0},
        **{"aurc": 0.0, "aurc_optimal": 0.0, "aurc_excess": 0.0, "risk": [0.0, 0.0], "f1": 1.0},
        "reasons": {"error_rate_uncertain": "No test image is uncertain."},
    }
    return [first, second]


def test_categories_are_averaged_and_counts_summed(evaluated):
    table = ensembles_table(evaluated)
    assert list(table.columns) == ENSEMBLE_COLUMNS
    (row,) = table.to_dict("records")
    assert (row["n_members"], row["n_categories"], row["n_test"]) == (2, 2, 10)
    assert [row[c] for c in ENSEMBLE_COLUMNS if c.endswith("certain")][:4] == [5, 1, 2, 2]
    expected = {
        **{"image_auroc": 0.8, "f1": 0.9, "aurc": 0.15, "aurc_optimal": 0.05, "aurc_excess": 0.1},
        # Of the means over categories, 0.8 and 0.7.
        **{"member_auroc_lowest": 0.7, "member_auroc_highest": 0.8},
        **{"error_rate": 0.3, "error_rate_certain": 1 / 6, "error_rate_uncertain": 0.5},
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["reason"] == ""
    (alone,) = ensembles_table(evaluated[1:]).to_dict("records")
    assert np.isnan(alone["error_rate_uncertain"])
    assert alone["reason"] == "No test image is uncertain."


def test_what_one_category_lacks_is_empty_with_a_reason(evaluated):
    lacking = no_ensemble(2, 4, "Test has no anomalous images.")
    evaluated[1] = {**evaluated[1], **lacking}
    (row,) = ensembles_table(evaluated).to_dict("records")
    values = pd.Series(row).drop(["dataset", "variant", "reason", *ENSEMBLE_COLUMNS[2:5]])
    assert values.isna().all()
    assert row["reason"] == "Test has no anomalous images."
    display = ensembles_display(ensembles_table(evaluated), [])
    assert "AUROC" not in display.cells
    assert display.cells["Why empty"].tolist() == ["Test has no anomalous images."]
    assert set(risk_table(evaluated)["category"]) == {"01"}


def test_curves_are_thinned_and_end_with_all_images(evaluated):
    wrong = np.random.default_rng(0).random(1000) < 0.3
    risk = risk_coverage(wrong, np.arange(1000))
    found = risk_table([evaluated[0], {**evaluated[0], "category": "02", "risk": risk.tolist()}])
    short, long = (found[found["category"] == name] for name in ("01", "02"))
    assert short["risk"].tolist() == evaluated[0]["risk"]
    assert short["coverage"].tolist() == [k / 8 for k in range(1, 9)]
    assert 50 <= len(long) <= 200
    assert long["coverage"].iloc[-1] == 1
    assert long["risk"].iloc[-1] == wrong.mean()
    for row in long.itertuples():
        assert row.risk == risk[round(1000 * row.coverage) - 1]


def test_the_best_order_has_the_optimal_area():
    for errors, images in ((0, 5), (2, 7), (5, 5)):
        coverage = np.arange(1, images + 1) / images
        curve = optimal_risk(coverage, errors / images)
        assert curve.mean() == pytest.approx(optimal_aurc(errors, images))


def test_the_table_for_people(evaluated):
    weaker = {**evaluated[0], "variant": "flow", "image_auroc": 0.6}
    table = ensembles_table([evaluated[0], weaker])
    entries = [DatasetEntry(name="tiles", card="folder_mvtec", source="x")]
    display = ensembles_display(table, entries)
    assert display.cells["Members, lowest to highest"].tolist() == ["70.0–80.0"] * 2
    assert display.cells.loc[0, ["Right, certain", "Wrong, uncertain"]].tolist() == ["3", "2"]
    assert display.cells.loc[0, "Errors of the certain"] == "25.0"
    assert display.bold["AUROC"].tolist() == [True, False]
    assert "198" not in display.note
    chest = [DatasetEntry(name="tiles", card="chest_xray")]
    note = ensembles_display(table, chest).note
    for part in ("198", "192", "90", "144 of 624", f"{100 * 90 / 288:.1f} %"):
        assert part in note
    assert f"{100 * 144 / 336:.1f} %" in note
    assert f"{100 * 234 / 624:.1f} %" in note
    assert "198" not in ensembles_display(table, [DatasetEntry(name="chest_xray")]).note


def test_tables_survive_the_files(evaluated, tmp_path):
    table = ensembles_table(evaluated)
    write_table(table, tmp_path / "ensembles.csv")
    found = read_ensembles(tmp_path / "ensembles.csv")
    assert ensembles_display(found, []).cells.equals(ensembles_display(table, []).cells)
    write_table(risk_table(evaluated), tmp_path / "risk.csv")
    assert set(read_risk(tmp_path / "risk.csv")["category"]) == {"01", "02"}
    with pytest.raises(DataError, match="run evaluate_ensembles again"):
        read_risk(tmp_path / "ensembles.csv")


def test_the_figure_is_the_mean_over_categories(evaluated):
    figure = plot_risk("tiles", ensembles_table(evaluated), risk_table(evaluated)).figure
    left, right = figure.axes
    curve, best = [x for x in left.lines if to_rgba(x.get_color()) == to_rgba("C0")]
    assert curve.get_ydata()[-1] == pytest.approx(100 * np.mean([3 / 8, 0]))
    assert best.get_ydata()[-1] == pytest.approx(curve.get_ydata()[-1])
    assert (curve.get_ydata() >= best.get_ydata() - 1e-9).all()
    line, mean, dot = right.lines
    assert line.get_xdata() == pytest.approx([70, 80])
    assert mean.get_xdata()[0] == pytest.approx(75)
    assert dot.get_xdata()[0] == pytest.approx(80)


def test_figures_say_why_they_are_empty(evaluated):
    none = ensembles_table([]), risk_table([])
    assert "no ensemble" in plot_risk("tiles", *none).figure.axes[0].texts[0].get_text()
    lacking = [{**evaluated[0], **no_ensemble(2, 4, "Test has no images.")}]
    figure = plot_risk("tiles", ensembles_table(lacking), risk_table(lacking)).figure
    assert "Test has no images." in figure.axes[0].texts[0].get_text()


def test_from_score_files_to_the_figure(tmp_path):
    cells = [Cell("tiles", c, v, s) for c in "ab" for v in ("first", "half") for s in (0, 1)]
    for number, cell in enumerate(cells):
        settings = {**SETTINGS, "score": SETTINGS["score"] | {"beta": 0.0}}
        metrics = {"method": "aeflow", "settings": SETTINGS if cell[2] == "half" else settings}
        path = cell.file(tmp_path / "metrics", "json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(metrics))
        if cell.variant == "first":  # the other shares its score tables
            save_scores(tmp_path, cell, draw(number))
    outputs = [x for e in ("csv", "md", "tex") for x in (f"--{e}", tmp_path / f"ensembles.{e}")]
    trained = json.dumps({"tiles": {"first": "first", "half": "first"}})
    for packed, rows in ((pack_cells(cells), 2), (pack_cells([]), 0)):
        run(
            *["evaluate_ensembles", "--folder", tmp_path, "--cells", packed],
            *["--trained", trained, "--datasets", '[{"name": "tiles"}]'],
            *[*outputs, "--risk", tmp_path / "risk.csv"],
        )
        table = read_ensembles(tmp_path / "ensembles.csv")
        assert len(table) == rows
        if rows:
            assert table["image_auroc"].nunique() == 2
            counts = table.filter(regex="^(right|wrong)_").sum(axis=1)
            assert (counts == table["n_test"]).all()
            assert set(table["n_test"]) == {120}
        figure = ["--png", tmp_path / f"{rows}.png", "--svg", tmp_path / f"{rows}.svg"]
        run(
            *["plot_risk", "--dataset", "tiles", "--ensembles", tmp_path / "ensembles.csv"],
            *["--risk", tmp_path / "risk.csv", *figure],
        )
    assert "one needs a variant with two seeds" in (tmp_path / "ensembles.md").read_text()


def test_a_member_without_scale_is_a_reason_and_no_end(tmp_path):
    cells = [Cell("tiles", "all", "aeflow", seed) for seed in (0, 1)]
    for cell in cells:
        path = cell.file(tmp_path / "metrics", "json")
        path.parent.mkdir(parents=True, exist_ok=True)
        metrics = {"method": "aeflow", "settings": SETTINGS}
        path.write_text(json.dumps(metrics))
        table = draw(cell.seed)
        table[["nll", "mse"]] = 1.0 if cell.seed else table[["nll", "mse"]]
        save_scores(tmp_path, cell, table)
    outputs = [x for e in ("csv", "md", "tex") for x in (f"--{e}", tmp_path / f"ensembles.{e}")]
    run(
        *["evaluate_ensembles", "--folder", tmp_path, "--cells", pack_cells(cells)],
        *["--trained", '{"tiles": {"aeflow": "aeflow"}}', "--datasets", '[{"name": "tiles"}]'],
        *[*outputs, "--risk", tmp_path / "risk.csv"],
    )
    (row,) = read_ensembles(tmp_path / "ensembles.csv").to_dict("records")
    assert "score of a member" in row["reason"]
    assert np.isnan(row["image_auroc"])
    assert row["n_test"] == 60
