"""Figure of the ablations: a panel per ablation, its values from left to right."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aeflow.display.figure import STYLE, Caption, Drawing

_PANELS_PER_ROW = 4
_SHARES = {
    "val_auroc": ("validation", "#D55E00", "s", -0.14),
    "image_auroc": ("test", "#0072B2", "o", 0.14),
}
_MEAN: dict[str, Any] = {"markersize": 5, "elinewidth": 1, "capsize": 2}
_SEED: dict[str, Any] = {"markersize": 2.5, "alpha": 0.6, "markeredgewidth": 0}


def plot_ablations(dataset: str, ablations: pd.DataFrame, results: pd.DataFrame) -> Drawing:
    """Draw validation and test AUROC, and the seconds of a training, for every ablation's values.

    Args:
        dataset: whose ablations.
        ablations: Output of `ablations_table`.
        results: Output of `results_table`, for the single seeds.
    """
    rows = ablations[ablations["dataset"] == dataset]
    own = results[results["dataset"] == dataset]
    by_seed = own.groupby(["variant", "seed"], sort=False)
    seeds = by_seed[list(_SHARES)].mean(skipna=False)
    names = list(dict.fromkeys(rows["ablation"]))
    n_columns = min(_PANELS_PER_ROW, max(len(names), 1))
    n_rows = max(1, -(-len(names) // n_columns))
    with style.context(STYLE):
        figure = Figure(
            figsize=(max(3.6, 2.4 * n_columns), 3.1 * n_rows + 0.4), layout="constrained"
        )
        panels = figure.subplots(
            2 * n_rows, n_columns, squeeze=False, sharey="row", height_ratios=[3, 1] * n_rows
        )
        for number, name in enumerate(names):
            row, column = divmod(number, n_columns)
            above, below = panels[2 * row, column], panels[2 * row + 1, column]
            values = rows[rows["ablation"] == name].reset_index(drop=True)
            _draw_aurocs(above, values, seeds)
            _draw_seconds(below, values)
            if column == 0:
                above.set_ylabel("AUROC (%)")
                below.set_ylabel("Fit (s)")
        for number in range(len(names), n_rows * n_columns):
            row, column = divmod(number, n_columns)
            panels[2 * row, column].set_axis_off()
            panels[2 * row + 1, column].set_axis_off()
        if not names:
            panels[0, 0].text(0, 0.5, "The configuration names no ablation of this dataset.")
        found = [axes.get_legend_handles_labels() for axes in panels[::2].ravel()]
        once = {label: h for pair in found for h, label in zip(*pair, strict=True)}
        figure.legend(list(once.values()), list(once), loc="outside lower center", ncols=4)
    text = (
        "One key differs at a time. Large marks and bars: mean over seeds, sd; small marks: one "
        "seed each, categories averaged. Shaded: the value that the variant has anyway. Below: "
        "mean seconds of one training. Choices may follow the validation AUROC, never the test's."
    )
    return Drawing(figure, Caption(dataset, f"Ablations on {dataset}", text))


def _draw_aurocs(axes: Axes, values: pd.DataFrame, seeds: pd.DataFrame) -> None:
    for name, (label, colour, marker, shift) in _SHARES.items():
        if values[f"{name}_mean"].isna().all():
            continue
        place = values.index.to_numpy() + shift
        sd = 100 * values[f"{name}_sd"].fillna(0)
        mean = 100 * values[f"{name}_mean"]
        axes.errorbar(place, mean, sd, fmt=marker, color=colour, label=label, **_MEAN)
        for x, variant in zip(place, values["variant"], strict=True):
            single = 100 * seeds.loc[seeds.index.get_level_values("variant") == variant, name]
            beside = np.full(len(single), x + 0.12 * np.sign(shift))
            axes.plot(beside, single, marker, color=colour, **_SEED)
    _mark_default(axes, values)
    axes.set_title(f"{values['ablation'][0]}, of {values['of'][0]}", fontsize=9)
    axes.set_xticks(values.index, [""] * len(values))
    axes.set_xlim(-0.6, len(values) - 0.4)


def _draw_seconds(axes: Axes, values: pd.DataFrame) -> None:
    axes.bar(values.index, values["fit_seconds_mean"], width=0.5, color="0.6")
    _mark_default(axes, values)
    longest = values["value"].str.len().sum() > 18
    axes.set_xticks(values.index, values["value"], rotation=20 if longest else 0)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_xlabel(values["key"][0])


def _mark_default(axes: Axes, values: pd.DataFrame) -> None:
    for place in values.index[values["is_default"]]:
        label = "the variant's own value"
        axes.axvspan(place - 0.5, place + 0.5, color="0.92", zorder=0, linewidth=0, label=label)
