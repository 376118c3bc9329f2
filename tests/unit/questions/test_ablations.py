import numpy as np
import pytest
from scipy import stats

from aeflow.questions.ablations import ablations_display, ablations_table, plot_ablations
from tests.unit.questions.memory import Memory, make_run, small_study

AUROCS = {"aeflow": (0.8, 0.9), "aeflow_width64": (0.7, 0.72), "aeflow_width_none": (0.8, 0.9)}
WIDTH = {"name": "width", "of": "aeflow", "key": "flow.hidden_channels", "values": [64, None]}
BETA = {"name": "beta", "of": "aeflow", "key": "score.beta", "values": [0.5]}


def source_of(aurocs, *ablations):
    """Two seeds and two categories, 0.1 below and above the seed's mean."""
    runs = [
        make_run(
            **{"variant": variant, "seed": seed, "category": category, "val_auroc": None},
            **{"image_auroc": auroc + shift, "fit_seconds": 10.0 + seed},
        )
        for variant, both in aurocs.items()
        for seed, auroc in enumerate(both)
        for category, shift in (("a", -0.1), ("b", 0.1))
    ]
    return Memory(*runs, study=small_study(ablations=[*ablations, BETA]))


@pytest.fixture
def source():
    return source_of(AUROCS, WIDTH)


def test_a_row_per_value_by_hand(source):
    table = ablations_table(source)
    assert table["value"].tolist() == ["64", "null"]  # and none of the weighting
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


def test_the_table_for_people(source):
    shown = ablations_display(ablations_table(source), source)
    assert shown.cells["Ablation"].tolist() == ["width of aeflow"] * 2
    assert shown.cells["Value"].tolist() == ["64", "null (default)"]
    assert shown.cells["AUROC"].tolist() == ["71.0 ± 1.4", "85.0 ± 7.1"]
    assert shown.bold["AUROC"].tolist() == [False, True]
    assert not {"Validation AUROC", "With"} & set(shown.cells)  # there is none


def test_a_value_without_runs_has_no_numbers():
    source = source_of({"aeflow": (0.8, 0.9)}, WIDTH)
    table = ablations_table(source)
    assert table[["n_seeds", "image_auroc_mean"]].isna().all(axis=None)
    cells = ablations_display(table, source).cells
    assert cells["Value"].tolist() == ["64", "null (default)"]
    assert not {"Seeds", "AUROC", "Fit (s)"} & set(cells)
    plot_ablations(source, "tiles")


def test_the_figure_shows_means_seeds_and_the_own_value(source):
    figure = plot_ablations(source, "tiles").figure
    (axes,) = figure.axes
    assert axes.get_title() == "aeflow: width\nflow.hidden_channels"
    drawn = {tuple(np.asarray(line.get_xdata(), dtype=float).round(6)) for line in axes.lines}
    assert {(71.0, 85.0), (70.0, 72.0), (80.0, 90.0)} <= drawn
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ["64  (10.5 s)", "null  (10.5 s)"]
    (shaded,) = axes.patches
    assert (shaded.get_y(), shaded.get_height()) == (0.5, 1)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(legend) == ["test", "the variant's own value"]  # validation has no AUROC
    (dots,) = (line for line in axes.lines if line.get_xdata().tolist() == pytest.approx([71, 85]))
    assert dots.get_ydata().tolist() == [0, 1]  # beside their values, as nothing is beside them


def test_further_keys_part_the_panels_and_stand_in_the_table():
    width = WIDTH | {"across": {"flow.subnet": ["conv", "resnet"]}}
    names = [f"aeflow_width{value}_{net}" for net in ("conv", "resnet") for value in (64, "_none")]
    source = source_of(dict.fromkeys(names, (0.8, 0.9)), width)
    table = ablations_table(source)
    assert table["variant"].tolist() == names
    assert table["across"].unique().tolist() == ["flow.subnet=conv", "flow.subnet=resnet"]
    assert table["is_default"].tolist() == [False, True, False, False]
    assert "With" in ablations_display(table, source).cells
    axes = plot_ablations(source, "tiles").figure.axes
    titles = [panel.get_title().splitlines() for panel in axes[:2]]
    assert [lines[-1] for lines in titles] == ["subnet=conv", "subnet=resnet"]
    assert axes[0].lines
    assert axes[1].lines


def test_without_ablations_there_are_headers_and_a_sentence():
    source = source_of(AUROCS)
    table = ablations_table(source)
    assert table.empty
    assert {"dataset", "across", "image_auroc_mean"} <= set(table)
    assert "names no ablation" in ablations_display(table, source).note
    assert "no ablation" in plot_ablations(source, "tiles").caption.text
