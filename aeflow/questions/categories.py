"""Does it hold for every category? Means over seeds per category, and over the categories."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from aeflow.display.table import LABELS, DisplayTable, best, number, percent, plain
from aeflow.judging.over_seeds import over_seeds
from aeflow.questions.results import read_table

SHOWN = ["image_auroc", "pixel_auroc", "aupro", "f1"]
MEAN = "mean"  # in the place of a category's name
_NAMES = ["dataset", "category", "variant"]
CATEGORY_COLUMNS = [
    *_NAMES,
    "n_seeds",
    *(f"{metric}_{kind}" for metric in SHOWN for kind in ("mean", "sd")),
]


def categories_table(results: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """Return mean and sd over seeds per category and variant, then of the mean over categories.

    Args:
        results: Output of `results_table`.
        variants: those to show.

    Returns:
        `CATEGORY_COLUMNS`, shares in [0, 1], for the datasets with several categories; the rows
        of a dataset end with those of the category `mean`. A value that one category lacks is
        missing in the mean.
    """
    named = results[results["variant"].isin(list(variants))]
    tables = [pd.DataFrame(columns=CATEGORY_COLUMNS)]
    for _, own in named.groupby("dataset", sort=False):
        if own["category"].nunique() < 2:
            continue
        cell = ["dataset", "variant", "seed"]
        means = own.groupby(cell, sort=False)[SHOWN].mean(skipna=False).reset_index()
        both = [own, means.assign(category=MEAN)]
        tables += [over_seeds(part, _NAMES, SHOWN)[CATEGORY_COLUMNS] for part in both]
    return pd.concat(tables[1:], ignore_index=True) if len(tables) > 1 else tables[0]


def read_categories(path: Path) -> pd.DataFrame:
    """Read `categories.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(path, CATEGORY_COLUMNS, text=_NAMES, rule="make_tables")


def categories_display(table: pd.DataFrame) -> DisplayTable:
    """Return `categories_table` for people."""
    cells = pd.DataFrame(
        {
            "Dataset": table["dataset"],
            "Category": table["category"],
            "Variant": table["variant"],
            **{
                LABELS[metric]: list(map(percent, table[f"{metric}_mean"], table[f"{metric}_sd"]))
                for metric in SHOWN
            },
            "Seeds": [number(count) for count in table["n_seeds"]],
        }
    )
    if table.empty:
        return plain(cells, "No dataset of this study has several categories.")
    found = plain(
        cells,
        f"Percent, mean ± sd over seeds; {MEAN}: categories are averaged within a seed first. F1 "
        "at the threshold fitted on validation images. Bold: best of a category.",
    )
    shown = [metric for metric in SHOWN if LABELS[metric] in found.cells]
    marks = best(
        table,
        [f"{metric}_mean" for metric in shown],
        table["dataset"] + "/" + table["category"],
    )
    found.bold[[LABELS[metric] for metric in shown]] = marks.to_numpy()
    return found
