"""Which defects are found: AUROC per defect, against all normal test images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeflow.display.table import DisplayTable, percent, plain
from aeflow.judging.over_seeds import over_seeds
from aeflow.questions.results import read_table

_DEFECT = ["dataset", "category", "defect", "n"]
DEFECT_COLUMNS = [
    *[*_DEFECT, "variant", "n_seeds"],
    *[f"image_auroc_{part}" for part in ("mean", "sd", "low", "high")],
    "reason",
]


def defects_table(metrics: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return mean, sd and Student's interval over seeds of the AUROC of every defect.

    Args:
        metrics: Contents of metrics files, whose `per_defect` is shown.

    Returns:
        `DEFECT_COLUMNS`, a row per dataset, category, defect and variant; n is the number of
        test images with the defect.
    """
    rows = [
        {key: run[key] for key in ("dataset", "category", "variant", "seed")}
        | {"defect": defect, "n": content["n"], "reason": run["reasons"].get("image_auroc", "")}
        | {"image_auroc": np.nan if content["image_auroc"] is None else content["image_auroc"]}
        for run in metrics
        for defect, content in run["per_defect"].items()
    ]
    if not rows:
        return pd.DataFrame(columns=DEFECT_COLUMNS)
    table = pd.DataFrame(rows)
    by = [*_DEFECT, "variant"]
    reason = table.groupby(by, sort=False)["reason"].first().to_numpy()
    return over_seeds(table, by, ["image_auroc"]).assign(reason=reason)[DEFECT_COLUMNS]


def read_defects(path: Path) -> pd.DataFrame:
    """Read `defects.csv`; a defect called 1 or NA stays so.

    Raises:
        DataError: the file is missing or has other columns.
    """
    names = ["dataset", "category", "defect", "variant", "reason"]
    return read_table(path, DEFECT_COLUMNS, text=names, rule="explain_scores")


def defects_display(table: pd.DataFrame) -> DisplayTable:
    """Return the AUROC per defect for people: a row per defect, a column per variant."""
    if not len(table):
        return plain(
            pd.DataFrame(columns=["Dataset", "Category", "Defect", "Images"]),
            "No test image of this study is anomalous.",
            long=True,
        )
    shown = table.assign(
        shown=[
            percent(mean, sd)
            for mean, sd in zip(table["image_auroc_mean"], table["image_auroc_sd"], strict=True)
        ]
    )
    rows = table[_DEFECT].drop_duplicates().reset_index(drop=True)
    keys = pd.MultiIndex.from_frame(rows)
    cells = rows.astype(str).set_axis(["Dataset", "Category", "Defect", "Images"], axis=1)
    means = pd.DataFrame(index=rows.index)
    for variant, own in shown.groupby("variant", sort=False):
        own = own.set_index(_DEFECT)
        cells[variant] = own["shown"].reindex(keys).fillna("").to_numpy()
        means[variant] = own["image_auroc_mean"].reindex(keys).to_numpy()
    result = plain(
        cells,
        "AUROC in percent of the images with one defect against all normal test images of the "
        "category, mean ± sd over seeds. Bold: best of a row.",
        long=True,
    )
    judged = [str(variant) for variant in means if variant in result.cells]
    if len(judged) > 1:
        rounded = (100 * means[judged]).round(1)
        result.bold[judged] = rounded.eq(rounded.max(axis=1), axis=0)
    return result
