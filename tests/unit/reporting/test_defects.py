import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aeflow.questions.defect_figures import plot_defects
from aeflow.questions.defects import DEFECT_COLUMNS, defects_display, defects_table, read_defects
from aeflow.questions.results import write_table


@pytest.fixture
def runs(make_run):
    def per_defect(crack, hole):
        return {"NA": {"n": 4, "image_auroc": crack}, "hole": {"n": 6, "image_auroc": hole}}

    return [
        make_run(seed=0, per_defect=per_defect(0.7, 0.6)),
        make_run(seed=1, per_defect=per_defect(0.9, 0.6)),
        make_run(variant="gradient", per_defect=per_defect(0.5, 0.75)),
    ]


def test_a_row_per_defect_and_variant_by_hand(runs):
    table = defects_table(runs)
    assert list(table.columns) == DEFECT_COLUMNS
    assert table["defect"].tolist() == ["NA", "hole", "NA", "hole"]
    first = table.iloc[0]
    assert (first["n"], first["n_seeds"], first["category"]) == (4, 2, "all")
    assert first["image_auroc_mean"] == pytest.approx(0.8)
    assert first["image_auroc_sd"] == pytest.approx(0.2 / 2**0.5)
    low, high = stats.t.interval(0.95, 1, loc=0.8, scale=0.1)
    assert first[["image_auroc_low", "image_auroc_high"]].tolist() == pytest.approx([low, high])


def test_the_table_is_read_as_written(runs, tmp_path):
    write_table(defects_table(runs), tmp_path / "defects.csv")
    read = read_defects(tmp_path / "defects.csv")
    assert read["defect"].tolist() == ["NA", "hole", "NA", "hole"]
    assert defects_display(read).markdown() == defects_display(defects_table(runs)).markdown()


def test_the_table_for_people_has_a_column_per_variant(runs):
    shown = defects_display(defects_table(runs))
    assert shown.cells["Defect"].tolist() == ["NA", "hole"]
    assert shown.cells["aeflow"].tolist() == ["80.0 ± 14.1", "60.0 ± 0.0"]
    assert shown.bold["gradient"].tolist() == [False, True]


def test_no_normal_images_no_auroc(make_run):
    lone = make_run(
        per_defect={"hole": {"n": 6, "image_auroc": None}},
        reasons={"image_auroc": "Test has no normal images."},
    )
    (row,) = defects_table([lone]).itertuples()
    assert np.isnan(row.image_auroc_mean)
    assert row.reason == "Test has no normal images."
    texts = plot_defects("tiles", defects_table([lone])).figure.axes[0].texts
    assert "no defect to judge" in texts[0].get_text()


def test_no_anomalies_give_headers_and_a_sentence(make_run, tmp_path):
    table = defects_table([make_run(per_defect={})])
    write_table(table, tmp_path / "defects.csv")
    assert (tmp_path / "defects.csv").read_text() == ",".join(DEFECT_COLUMNS) + "\n"
    assert "No test image" in defects_display(read_defects(tmp_path / "defects.csv")).markdown()
    plot_defects("tiles", read_defects(tmp_path / "defects.csv"))


def test_the_figure_has_a_colour_per_variant_and_defects_with_their_counts(runs):
    figure = plot_defects("tiles", defects_table(runs)).figure
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["NA (4)", "hole (6)"]
    drawn = {c.get_label(): c.lines[0].get_xdata().tolist() for c in axes.containers}
    assert drawn == {"aeflow": pytest.approx([80, 60]), "gradient": pytest.approx([50, 75])}
    colours = [container.lines[0].get_color() for container in axes.containers]
    assert len(set(colours)) == 2


def test_one_defect_needs_no_figure(make_run):
    texts = plot_defects("tiles", defects_table([make_run()])).figure.axes[0].texts
    assert texts[0].get_text() == "There is one defect only."


def test_categories_are_named(make_run):
    runs = [make_run(category=category) for category in ("a", "b")]
    axes = plot_defects("tiles", defects_table(runs)).figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["a, crack (40)", "b, crack (40)"]
    assert pd.Series(labels).is_unique
