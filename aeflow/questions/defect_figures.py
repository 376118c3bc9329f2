"""Figure of the defects: which are found, by which variant."""

from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aeflow.display.figure import STYLE, Caption, Drawing

_MARKERS = ["o"] * 7 + ["D"] * 7 + ["^"] * 7  # the colours come again after seven
_DOT: dict[str, Any] = {"markersize": 4, "elinewidth": 0.8}


def plot_defects(dataset: str, defects: pd.DataFrame) -> Drawing:
    """Draw the AUROC of each defect, a colour per variant.

    Args:
        dataset: whose defects.
        defects: Output of `defects_table`.
    """
    rows = defects[(defects["dataset"] == dataset) & defects["image_auroc_mean"].notna()]
    names = list(rows[["category", "defect", "n"]].drop_duplicates().itertuples(index=False))
    variants = list(dict.fromkeys(rows["variant"]))
    per_defect = 0.12 * max(len(variants), 2) + 0.12
    several = len(names) > 1
    with style.context(STYLE):
        height = 1 + per_defect * len(names) if several else 1.5
        figure = Figure(figsize=(6.4, height), layout="constrained")
        axes = figure.add_subplot()
        if several:
            _draw(axes, rows, names, variants)
            figure.legend(loc="outside right center")
        else:
            known = "There is one defect only." if names else "There is no defect to judge."
            axes.text(0.5, 0.5, known, ha="center")
            axes.set_axis_off()
    text = (
        "AUROC of the test images with one defect against all normal test images of the category; "
        "mean over seeds, bars: sd. In brackets: images with the defect. Dotted line: chance."
    )
    return Drawing(figure, Caption(dataset, f"Defects of {dataset}", text))


def _draw(axes: Axes, rows: pd.DataFrame, names: list[Any], variants: list[str]) -> None:
    keys = pd.MultiIndex.from_tuples(names)
    shifts = np.linspace(-0.36, 0.36, len(variants)) if len(variants) > 1 else [0.0]
    for variant, shift, marker in zip(variants, shifts, cycle(_MARKERS), strict=False):
        own = rows[rows["variant"] == variant].set_index(["category", "defect", "n"])
        own = 100 * own[["image_auroc_mean", "image_auroc_sd"]].reindex(keys)
        mean, sd = own["image_auroc_mean"], own["image_auroc_sd"].fillna(0)
        places = np.arange(len(names)) + shift
        axes.errorbar(mean, places, None, sd, fmt=marker, label=variant, **_DOT)
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color="0.85", linewidth=0.6, zorder=0)
    categories = len({name.category for name in names}) > 1
    labels = [
        (f"{name.category}, {name.defect}" if categories else name.defect) + f" ({name.n})"
        for name in names
    ]
    axes.axvline(50, color="0.7", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_yticks(range(len(names)), labels)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="AUROC (%)")
