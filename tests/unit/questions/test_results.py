"""Rows of runs, and means over seeds, categories and defects by hand."""

import numpy as np
import pytest
from scipy import stats

from aeflow.core.errors import DataError
from aeflow.display.table import csv_text, typed
from aeflow.questions.results import plot_categories, plot_defects, results_table
from tests.unit.questions.memory import Memory, make_run

CONTRACT = [
    *("dataset", "category", "variant", "method", "encoder", "seed"),
    *("image_auroc", "image_aupr", "f1", "accuracy", "sensitivity", "specificity", "threshold"),
    *("oracle_f1", "pixel_auroc", "aupro", "n_train", "n_test_normal", "n_test_anomalous"),
    "fit_seconds",
]


def categories_of(values, **changes):
    """Runs of (category, seed) -> AUROC."""
    return [make_run(category=c, seed=s, image_auroc=v, **changes) for (c, s), v in values.items()]


TWO = {("01", 0): 0.8, ("02", 0): 0.6, ("01", 1): 0.9, ("02", 1): 0.7}


def test_results_begin_with_the_columns_others_rely_on():
    runs = make_run(seed=3), make_run(variant="flow", method="flow")
    table = Memory(*runs).table("results")
    assert list(table.columns[:20]) == CONTRACT
    assert table[["seed", "variant"]].to_numpy().tolist() == [[3, "aeflow"], [0, "flow"]]
    assert table.loc[0, ["image_auroc_low", "image_auroc_high"]].tolist() == [0.75, 0.85]


def test_null_is_an_empty_cell():
    run = make_run(image_auroc=None, best_epoch=None, encoder=None, intervals={})
    header, row = csv_text(Memory(run).table("results")).splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    for empty in ("image_auroc", "best_epoch", "encoder", "aupro", "image_auroc_low"):
        assert cells[empty] == ""
    assert (cells["seed"], cells["n_train"], cells["f1"]) == ("0", "100", "0.6")


def test_means_average_categories_within_a_seed_first():
    (row,) = Memory(*categories_of(TWO)).table("main").to_dict("records")
    # Seeds: 0.7 and 0.8. Over all four runs the sd would be 0.129.
    assert row["image_auroc_mean"] == pytest.approx(0.75)
    assert row["image_auroc_sd"] == pytest.approx(0.1 / np.sqrt(2))
    ends = stats.t.interval(0.95, 1, loc=0.75, scale=0.05)
    assert row["image_auroc_low"] == pytest.approx(ends[0])
    assert row["image_auroc_high"] == 1 < ends[1]
    assert (row["n_seeds"], row["n_categories"]) == (2, 2)
    (alone,) = Memory(make_run()).table("main").to_dict("records")
    assert (alone["f1_mean"], np.isnan(alone["f1_sd"])) == (0.6, True)


def test_a_mean_needs_every_category_and_names_every_rule():
    first = make_run(category="a", pixel_auroc=0.9)
    second = make_run(category="b", f1=0.8, threshold_rule="specificity")
    flow = {"variant": "flow", "method": "flow", "threshold_rule": None}
    rules = [make_run(variant="rules", category=rule, threshold_rule=rule) for rule in "fbeadc"]
    source = Memory(first, second, make_run(**flow), *rules)
    row = source.table("main").iloc[0]
    assert np.isnan(row["pixel_auroc_mean"])
    assert row["f1_mean"] == pytest.approx(0.7)
    assert source.table("main")["threshold_rule"].tolist() == [
        *("f1_max, specificity", ""),
        "a, b, c, d, e, f",  # a set has another order in every process
    ]


def test_rows_keep_the_order_of_the_study():
    runs = [make_run(dataset=d, variant=v) for d in ("z", "a") for v in ("flow", "aeflow")]
    table = Memory(*runs).table("main")
    assert list(table["dataset"] + table["variant"]) == ["zflow", "zaeflow", "aflow", "aaeflow"]


def test_the_main_table_for_people():
    runs = [
        *categories_of(TWO, aupro=0.5),
        *categories_of(
            {key: value + 0.0002 for key, value in TWO.items()}, variant="flow", f1=0.7
        ),
        make_run(dataset="other", pixel_auroc=0.9),
        make_run(variant="ablated", image_auroc=1.0),
    ]
    source = Memory(*runs)
    kept = [v for v in source.study.variants if v.name != "ablated"]
    source.study = source.study.model_copy(update={"variants": kept})
    shown = source.shown("main")
    assert shown.cells["AUROC"].tolist() == ["75.0 ± 7.1", "75.0 ± 7.1", "80.0"]
    assert shown.cells["AUPRO"].tolist() == ["50.0 ± 0.0", "", ""]
    assert shown.cells["Seeds"].tolist() == ["2", "2", "1"]
    # Equal as printed; a lone row beats nobody; the oracle is no result.
    assert shown.bold["AUROC"].tolist() == [True, True, False]
    assert shown.bold["F1"].tolist() == [False, True, False]
    assert not shown.bold["F1 (oracle)"].any()
    assert "tiles: mean over 2 categories" in shown.note


def test_the_results_for_people():
    unknown = make_run(seed=1, image_auroc=None, threshold=None, threshold_rule=None, intervals={})
    first, second = (
        Memory(make_run(category="01"), unknown).shown("results").cells.to_dict("records")
    )
    assert (first["Category"], first["AUROC"], first["AUROC interval"]) == (
        *("01", "80.0", "75.0–85.0"),
    )
    assert (first["Threshold"], first["Rule"], first["Fit (s)"]) == ("1.25", "f1_max", "12.5")
    assert (second["AUROC"], second["AUROC interval"], second["Threshold"]) == ("", "", "")


def test_categories_are_the_means_with_one_more_key_then_all():
    values = {("01", 0): 0.8, ("02", 0): 0.6, ("01", 1): 0.9, ("02", 1): 0.9}
    lower = {key: value - 0.1 for key, value in values.items()}
    runs = categories_of(values, aupro=0.5) + categories_of(lower, variant="flow")
    source = Memory(*runs, make_run(dataset="one"))
    table = source.table("categories")
    assert table["category"].tolist() == ["01", "02", "01", "02", "mean", "mean"]
    own = table[table["variant"] == "aeflow"].set_index("category")
    assert own["image_auroc_mean"].tolist() == pytest.approx([0.85, 0.75, 0.8])
    # Seeds of the mean: 0.7 and 0.9; over all four runs the sd would be 0.141.
    sds = [0.1 / np.sqrt(2), 0.3 / np.sqrt(2), 0.2 / np.sqrt(2)]
    assert own["image_auroc_sd"].tolist() == pytest.approx(sds)
    assert own["n_seeds"].tolist() == [2, 2, 2]
    shown = source.shown("categories")
    assert "Pixel AUROC" not in shown.cells
    assert shown.cells["AUROC"][4] == "80.0 ± 14.1"
    assert shown.bold["AUROC"].tolist() == [True, True, False, False, True, False]
    none = Memory(make_run()).shown("categories")
    assert "No dataset of this study has several categories." in none.markdown()
    runs[1]["f1"] = None
    table = Memory(*runs).table("categories").iloc[[0, 1, 4]]
    assert table["f1_mean"].isna().tolist() == [False, True, True]


def test_categories_are_drawn_sorted_by_the_reference():
    auroc = {"a": (0.6, 0.9), "b": (0.9, 0.5), "c": (0.7, 0.6)}
    runs = [
        make_run(category=c, variant=v, image_auroc=values[k])
        for c, values in auroc.items()
        for k, v in enumerate(("whole", "part"))
    ]
    for named, order in ((("whole", "part"), "bca"), (("part", "whole"), "acb")):
        source = Memory(*sorted(runs, key=lambda run: named.index(run["variant"])))
        (axes,) = plot_categories(source, "tiles").figure.axes
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert labels == [*order, "mean of all"]


def defects(crack, hole):
    return {"NA": {"n": 4, "image_auroc": crack}, "hole": {"n": 6, "image_auroc": hole}}


DEFECTS = [
    make_run(seed=0, per_defect=defects(0.7, 0.6)),
    make_run(seed=1, per_defect=defects(0.9, 0.6)),
    make_run(variant="gradient", method="gradient", per_defect=defects(0.5, 0.75)),
]


def test_defects_are_the_means_of_each_defect():
    source = Memory(*DEFECTS)
    table = source.table("defects")
    assert table["defect"].tolist() == ["NA", "hole", "NA", "hole"]
    first = table.iloc[0]
    assert (first["n"], first["n_seeds"], first["category"]) == (4, 2, "all")
    assert first["image_auroc_mean"] == pytest.approx(0.8)
    assert first["image_auroc_sd"] == pytest.approx(0.2 / 2**0.5)
    ends = stats.t.interval(0.95, 1, loc=0.8, scale=0.1)
    assert ends[0] < 0 < 1 < ends[1]
    assert first[["image_auroc_low", "image_auroc_high"]].tolist() == [0, 1]
    shown = source.shown("defects")
    assert shown.cells["Defect"].tolist() == ["NA", "hole"]
    assert shown.cells["aeflow"].tolist() == ["80.0 ± 14.1", "60.0 ± 0.0"]
    assert shown.bold["gradient"].tolist() == [False, True]


def test_defects_without_an_auroc_or_without_anomalies():
    lone = make_run(
        per_defect={"hole": {"n": 6, "image_auroc": None}},
        reasons={"image_auroc": "Test has no normal images."},
    )
    (row,) = Memory(lone).table("defects").to_dict("records")
    assert (np.isnan(row["image_auroc_mean"]), row["reason"]) == (
        *(True, "Test has no normal images."),
    )
    none = Memory(make_run(per_defect={}))
    assert csv_text(none.table("defects")).count("\n") == 1
    assert "No test image" in none.shown("defects").markdown()


def test_defects_are_drawn_with_their_counts_a_colour_per_variant():
    axes = plot_defects(Memory(*DEFECTS), "tiles").figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["NA (4)", "hole (6)"]
    drawn = {c.get_label(): c.lines[0].get_xdata().tolist() for c in axes.containers}
    assert drawn == {"aeflow": pytest.approx([80, 60]), "gradient": pytest.approx([50, 75])}
    assert len({container.lines[0].get_color() for container in axes.containers}) == 2
    several = Memory(*(make_run(category=category) for category in "ab"))
    axes = plot_defects(several, "tiles").figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["a, crack (40)", "b, crack (40)"]
    for runs, text in ((make_run(), "one defect"), (make_run(per_defect={}), "no defect")):
        drawing = plot_defects(Memory(runs), "tiles")
        assert (drawing.figure.axes, text in drawing.caption.text) == ([], True)


def test_text_in_the_place_of_a_number_is_named():
    with pytest.raises(DataError, match="column f1 holds something else"):
        typed(results_table(Memory(make_run(f1="good"))))
