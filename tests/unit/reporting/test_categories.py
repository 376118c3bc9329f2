"""Means per category by hand."""

import numpy as np
import pandas as pd
import pytest

from aeflow.questions.categories import (
    CATEGORY_COLUMNS,
    categories_display,
    categories_table,
    read_categories,
)
from aeflow.questions.results import results_table, write_table

AUROC = {("01", 0): 0.8, ("02", 0): 0.6, ("01", 1): 0.9, ("02", 1): 0.9}


def results_of(make_run, **changes):
    runs = [
        make_run(variant=variant, category=c, seed=s, image_auroc=a - lower, aupro=0.5, **changes)
        for variant, lower in (("aeflow", 0.0), ("flow", 0.1), ("aeflow_depth2", 0.2))
        for (c, s), a in AUROC.items()
    ]
    return results_table(runs)


def test_means_per_category_and_over_them(make_run, tmp_path):
    table = categories_table(results_of(make_run), ["aeflow", "flow"])
    assert list(table.columns) == CATEGORY_COLUMNS
    assert table["category"].tolist() == ["01", "02", "01", "02", "mean", "mean"]
    own = table[table["variant"] == "aeflow"].set_index("category")
    assert own["image_auroc_mean"].tolist() == pytest.approx([0.85, 0.75, 0.8])
    # Seeds of the mean: 0.7 and 0.9; over all four runs the sd would be 0.141.
    assert own["image_auroc_sd"].tolist() == pytest.approx(
        [0.1 / np.sqrt(2), 0.3 / np.sqrt(2), 0.2 / np.sqrt(2)]
    )
    assert own["n_seeds"].tolist() == [2, 2, 2]
    assert own["pixel_auroc_mean"].isna().all()
    write_table(table, tmp_path / "categories.csv")
    again = read_categories(tmp_path / "categories.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    shown = categories_display(again)
    assert "Pixel AUROC" not in shown.cells
    assert shown.cells["AUROC"][4] == "80.0 ± 14.1"
    assert shown.bold["AUROC"].tolist() == [True, True, False, False, True, False]


def test_a_mean_needs_every_category(make_run):
    results = results_of(make_run)
    results.loc[results["category"] == "02", "f1"] = np.nan
    table = categories_table(results, ["aeflow"]).set_index("category")
    assert table["f1_mean"].isna().to_dict() == {"01": False, "02": True, "mean": True}


def test_one_category_is_no_table(make_run, tmp_path):
    table = categories_table(results_table([make_run()]), ["aeflow"])
    write_table(table, tmp_path / "categories.csv")
    assert (tmp_path / "categories.csv").read_text() == ",".join(CATEGORY_COLUMNS) + "\n"
    shown = categories_display(read_categories(tmp_path / "categories.csv"))
    assert "No dataset of this study has several categories." in shown.markdown()
