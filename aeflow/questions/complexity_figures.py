"""Figure of complexity: what the scores follow, and the AUROC without it."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aeflow.display.figure import STYLE, Caption, Drawing
from aeflow.questions.complexity import COMBINED, MEASURE_LABELS

_MARKS = {"compressed_bits": ("#0072B2", "o"), "mean_gradient": ("#D55E00", "D")}
_DOT: dict[str, Any] = {"markersize": 4, "elinewidth": 1}


def plot_complexity(dataset: str, correlations: pd.DataFrame, corrected: pd.DataFrame) -> Drawing:
    """Draw the correlations on normal test images, and AUROC before and after the correction.

    Args:
        dataset: whose scores.
        correlations: Output of `correlations_table`.
        corrected: Output of `corrected_table`.
    """
    rows = correlations[correlations["dataset"] == dataset]
    rows = rows[rows["images"] == "normal"]
    lines = len(rows[["variant", "component"]].drop_duplicates())
    variants = corrected[corrected["dataset"] == dataset].reset_index(drop=True)
    height = 1.2 + 0.17 * max(lines, 1.3 * len(variants), 6)
    with style.context(STYLE):
        figure = Figure(figsize=(9.4, height), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
        _draw_correlations(left, rows)
        _draw_correction(right, variants)
        for axes in (left, right):
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    text = (
        "Left: Spearman's rank correlation of each score component with two measures of an "
        "image's complexity, on normal test images alone; dots and bars: mean over seeds, sd, "
        f"categories averaged first; bold ({COMBINED}): the variant's combined score. Right: "
        "AUROC on the test images, before and after the part that complexity explains is taken "
        "out, as fitted to validation normals."
    )
    return Drawing(figure, Caption(dataset, f"Scores and complexity on {dataset}", text))


def _draw_correlations(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_xlabel("Spearman's correlation, normal test images")
    axes.set_xlim(-1.05, 1.05)
    axes.axvline(0, color="0.6", linewidth=0.8)
    if rows["spearman_mean"].isna().all():
        axes.set_yticks([])
        axes.text(0, 0.5, "no correlation can be computed", ha="center")
        return
    # Each variant's combined score before its components.
    order = list(dict.fromkeys(rows["variant"]))
    names = sorted(
        rows[["variant", "component"]].drop_duplicates().itertuples(index=False, name=None),
        key=lambda name: (order.index(name[0]), name[1] != COMBINED),
    )
    for measure, (colour, marker) in _MARKS.items():
        own = rows[rows["measure"] == measure].set_index(["variant", "component"])
        own = own.reindex(pd.MultiIndex.from_tuples(names))
        mean, sd = own["spearman_mean"], own["spearman_sd"].fillna(0)
        label, places = MEASURE_LABELS[measure], np.arange(len(own))
        axes.errorbar(mean, places, None, sd, fmt=marker, color=colour, label=label, **_DOT)
    labels = [v if c == COMBINED else c for v, c in names]
    axes.set_yticks(range(len(names)), labels, fontsize=7)
    for tick, (_, component) in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if component == COMBINED else "normal")
    ends = [n for n in range(1, len(names)) if names[n][0] != names[n - 1][0]]
    for end in ends:
        axes.axhline(end - 0.5, color="0.85", linewidth=0.6, zorder=0)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _draw_correction(axes: Axes, variants: pd.DataFrame) -> None:
    axes.set_xlabel("Test AUROC (%)")
    if variants["image_auroc_mean"].isna().all():
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no AUROC: the test images are of one class", ha="center")
        return
    places = np.arange(len(variants))
    before, after = (100 * variants[f"{n}_mean"] for n in ("image_auroc", "corrected_auroc"))
    axes.hlines(places, before, after, color="0.6", linewidth=1.2, zorder=1)
    for label, values, colour, name in (
        ("as it is", before, "#000000", "image_auroc"),
        ("corrected for complexity", after, "#009E73", "corrected_auroc"),
    ):
        sd = 100 * variants[f"{name}_sd"].fillna(0)
        axes.errorbar(values, places, None, sd, fmt="o", color=colour, label=label, **_DOT)
    for place in places[after.isna().to_numpy()]:
        axes.text(before[place], place - 0.12, "  no corrected score", fontsize=7, va="bottom")
    axes.axvline(50, color="0.7", linewidth=0.8, linestyle=":")
    axes.set_yticks(places, variants["variant"])
    axes.set_ylim(len(variants) - 0.5, -0.5)
