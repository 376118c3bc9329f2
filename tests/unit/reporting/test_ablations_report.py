import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aeflow.questions.ablation_figures import plot_ablations
from aeflow.questions.ablations import (
    ABLATION_COLUMNS,
    ablations_display,
    ablations_table,
    read_ablations,
)
from aeflow.questions.results import results_table, write_table
from aeflow.study.ablations import ablation_rows
from aeflow.study.study import Study

AUROCS = {"aeflow": (0.8, 0.9), "aeflow_width64": (0.7, 0.72), "aeflow_width_none": (0.8, 0.9)}


@pytest.fixture
def rows():
    width = {"name": "width", "of": "aeflow", "key": "flow.hidden_channels", "values": [64, None]}
    return ablation_rows(Study(datasets=[{"name": "tiles", "card": "btad"}], ablations=[width]))


@pytest.fixture
def results(make_run):
    """Two seeds and two categories, 0.1 below and above the seed's mean."""
    return results_table(
        [
            make_run(
                **{"variant": variant, "seed": seed, "category": category},
                **{"image_auroc": auroc + shift, "fit_seconds": 10.0 + seed, "val_auroc": None},
                peak_rss_mib=2000.0,
            )
            for variant, aurocs in AUROCS.items()
            for seed, auroc in enumerate(aurocs)
            for category, shift in (("a", -0.1), ("b", 0.1))
        ]
    )


def test_a_row_per_value_by_hand(results, rows):
    table = ablations_table(results, rows)
    assert list(table.columns) == ABLATION_COLUMNS
    assert table["value"].tolist() == ["64", "null"]
    assert table["is_default"].tolist() == [False, True]
    assert table["trained_as"].tolist() == ["aeflow_width64", "aeflow"]
    first = table.iloc[0]
    assert (first["n_seeds"], first["of"], first["key"]) == (2, "aeflow", "flow.hidden_channels")
    assert first["image_auroc_mean"] == pytest.approx(0.71)
    assert first["image_auroc_sd"] == pytest.approx(0.02 / 2**0.5)
    low, high = stats.t.interval(0.95, 1, loc=0.71, scale=0.01)
    assert first[["image_auroc_low", "image_auroc_high"]].tolist() == pytest.approx([low, high])
    assert first["fit_seconds_mean"] == 10.5
    assert first[["val_auroc_mean", "aupro_sd"]].isna().all()


def test_a_value_without_runs_has_no_numbers(results, rows):
    table = ablations_table(results[results["variant"] == "aeflow"], rows)
    assert table["n_seeds"].isna().all()
    assert ablations_display(table).cells["Value"].tolist() == ["64", "null (default)"]


def test_the_table_is_read_as_written(results, rows, tmp_path):
    table = ablations_table(results, rows)
    write_table(table, tmp_path / "ablations.csv")
    pd.testing.assert_frame_equal(read_ablations(tmp_path / "ablations.csv"), table)


def test_the_table_for_people(results, rows):
    shown = ablations_display(ablations_table(results, rows))
    assert shown.cells["AUROC"].tolist() == ["71.0 ± 1.4", "85.0 ± 7.1"]
    assert shown.bold["AUROC"].tolist() == [False, True]
    assert "Validation AUROC" not in shown.cells  # there is none
    assert "**85.0 ± 7.1**" in shown.markdown()


def test_without_ablations_there_are_headers_and_a_sentence(results, tmp_path):
    table = ablations_table(results, [])
    write_table(table, tmp_path / "ablations.csv")
    assert (tmp_path / "ablations.csv").read_text() == ",".join(ABLATION_COLUMNS) + "\n"
    read = read_ablations(tmp_path / "ablations.csv")
    assert "names no ablation" in ablations_display(read).markdown()
    assert "names no ablation" in ablations_display(read).latex()
    texts = plot_ablations("tiles", read, results).figure.axes[0].texts
    assert "names no ablation" in texts[0].get_text()


def test_the_figure_shows_means_seeds_and_the_own_value(results, rows):
    figure = plot_ablations("tiles", ablations_table(results, rows), results).figure
    above, below = figure.axes
    assert above.get_title(loc="left") == "width, of aeflow"
    drawn = {tuple(np.asarray(line.get_ydata(), dtype=float).round(6)) for line in above.lines}
    assert {(71.0, 85.0), (70.0, 72.0), (80.0, 90.0)} <= drawn
    assert [label.get_text() for label in below.get_xticklabels()] == ["64", "null"]
    assert [bar.get_height() for bar in below.patches[:2]] == [10.5, 10.5]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(legend) == ["test", "the variant's own value"]  # validation has no AUROC
