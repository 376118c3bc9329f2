"""Curves behind the numbers: ROC, histograms of scores, losses of the trainings."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aeflow.core.types import ANOMALOUS, SCORE_TABLE_COLUMNS, Split
from aeflow.display.dots import DARK, ORANGE
from aeflow.display.figure import Caption, Drawing, legend_below, nothing_to_draw
from aeflow.display.table import percent
from aeflow.judging.metrics import missing_class, threshold_curve
from aeflow.questions.source import Source
from aeflow.scoring.predictions import SeedScores

Array = npt.NDArray[np.float64]
_GRID = np.linspace(0, 1, 401)
_CURVES = {
    "loss": "Loss",
    "flow_nll": "Flow: negative log-likelihood",
    "reconstruction": "Reconstruction error",
}
_DOT: dict[str, Any] = {"marker": "o", "linestyle": "", "markeredgecolor": "white", "zorder": 4}


def plot_roc(source: Source, dataset: str) -> Drawing:
    """Draw the ROC curves of one dataset's variants.

    A thin line is one seed, its categories averaged vertically (mean sensitivity at each
    false-positive rate); the thick line is the mean over seeds; a dot is a seed at the threshold
    fitted on validation images.
    """
    shares = ["image_auroc", "specificity", "sensitivity"]
    title = f"ROC curves of {dataset}"
    table = pd.DataFrame(source.runs())[["category", "variant", "seed", *shares]]
    table[shares] = table[shares].astype("float64")
    figure = Figure(figsize=(5.9, 4), layout="compressed")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
    dashes = cycle(["-"] * 7 + ["--"] * 7 + ["-."] * 7)
    for variant, scored in source.predictions(Split.TEST).get(dataset, {}).items():
        _draw_roc(axes, variant, table[table["variant"] == variant], scored, dashes)
    axes.set(xlabel="1 − specificity (false-positive rate)", ylabel="Sensitivity")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=dataset)
    for line in axes.lines:  # at an end they stay whole
        line.set_clip_on(False)
    if len(axes.lines) == 1:
        return nothing_to_draw(dataset, title, "No ROC: the test images are not of both classes.")
    figure.legend(loc="outside right center", title="AUROC, mean ± sd (%)")
    text = (
        "Thin lines: one seed each, categories averaged. Thick lines: mean over seeds. Dots: the "
        "threshold fitted on validation images, one per seed. Dotted diagonal: chance."
    )
    return Drawing(figure, Caption(dataset, title, text))


def _draw_roc(
    axes: Axes,
    variant: str,
    runs: pd.DataFrame,
    scored: dict[str, SeedScores],
    dashes: Iterator[str],
) -> None:
    """Draw one variant, from its runs and its scores by category."""
    known = [name for name, scores in scored.items() if not missing_class(scores.labelled[0])]
    if not known:
        return
    aurocs = runs.groupby("seed")["image_auroc"].mean(skipna=False)
    label = f"{variant}  {percent(aurocs.mean(skipna=False), aurocs.std(skipna=False))}".rstrip()
    runs = runs[runs["category"].isin(known)]
    points = runs.groupby("seed", sort=False)[["specificity", "sensitivity"]].mean(skipna=False)
    curves = np.mean([_sensitivities(*scored[name].labelled) for name in known], axis=0)
    rates = np.append(0, _GRID)
    (line,) = axes.plot(rates, curves.mean(axis=0), next(dashes), label=label)
    for (specificity, sensitivity), curve in zip(points.to_numpy(), curves, strict=True):
        axes.plot(1 - specificity, sensitivity, color=line.get_color(), **_DOT)
        if len(curves) > 1:
            thin: dict[str, Any] = {"linewidth": 0.6, "linestyle": line.get_linestyle()}
            axes.plot(rates, curve, color=line.get_color(), alpha=0.5, **thin)


def _sensitivities(gt_label: Array, scores: Array) -> Array:
    """Return the ROC curves of scores (N, S): 0, then sensitivities at the rates of `_GRID`."""
    found = []
    for curve in (threshold_curve(gt_label, values) for values in scores.T):
        fpr, tpr = np.append(0, curve.fp) / curve.normal, np.append(0, curve.tp) / curve.anomalous
        found.append(np.append(0, np.interp(_GRID, fpr, tpr)))
    return np.array(found)


def plot_scores(source: Source, dataset: str, category: str, variant: str) -> Drawing:
    """Draw histograms of the combined score and of each component, of the first seed.

    A score that cannot be combined, as one without a scale, has no histogram.
    """
    (cell,), (run,) = source.cells, source.runs()
    table = source.scores(cell)
    combined = np.full(len(table), np.nan)
    for split in (Split.VALIDATION, Split.TEST):
        scored = source.predictions(split).get(dataset, {}).get(variant, {}).get(category)
        if scored is not None:
            combined[table["split"] == split] = scored.score[:, 0]
    parts = table.columns.drop(list(SCORE_TABLE_COLUMNS))
    columns = {} if np.isnan(combined).any() else {"combined score": combined}
    columns |= {name: table[name].to_numpy() for name in parts}
    aurocs = {name: found["test_auroc"] for name, found in run["components"].items()}
    aurocs["combined score"] = run["image_auroc"]
    n_columns = min(4, len(columns))
    n_rows = -(-len(columns) // n_columns)
    figure = Figure(figsize=(2.6 * n_columns, 2.1 * n_rows + 0.5), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, (name, values) in zip(grid, columns.items(), strict=False):
        _draw_histograms(axes, table, values)
        known = "not known" if aurocs[name] is None else f"{percent(aurocs[name])} %"
        axes.set_title(f"{name}\nAUROC {known}", fontsize=9)
    for axes in grid[len(columns) :]:
        axes.remove()
    if "combined score" in columns and run["threshold"] is not None:
        look: dict[str, Any] = {"color": "black", "linewidth": 1, "linestyle": "--"}
        grid[0].axvline(run["threshold"], label="threshold (validation)", **look)
    grid[0].set_ylabel("Share of images")
    legend_below(figure, 4)
    text = (
        "Each class sums to 1. Higher means more anomalous. Scores outside the middle 99 % "
        "of all images are counted in the outermost bins."
    )
    title = f"Scores of {dataset}, {category}, {variant}, seed {cell.seed}"
    return Drawing(figure, Caption(dataset, title, text))


def _draw_histograms(axes: Axes, table: pd.DataFrame, values: Array) -> None:
    low, high = np.percentile(values, [0.5, 99.5])
    margin = 0.02 * (high - low) or 0.5  # all scores are equal
    edges = np.linspace(low - margin, high + margin, 31)
    inside = np.clip(values, edges[0], edges[-1])
    test, anomalous = table["split"].eq(Split.TEST), table["gt_label"].eq(ANOMALOUS)
    kinds: list[tuple[pd.Series, dict[str, Any]]] = [
        (test & ~anomalous, {"label": "test, normal", "color": DARK, "alpha": 0.5}),
        (test & anomalous, {"label": "test, anomalous", "color": ORANGE, "alpha": 0.5}),
        (~test & ~anomalous, {"label": "validation, normal", "color": "k", "histtype": "step"}),
    ]
    for members, look in kinds:
        if members.any():
            weights = np.full(n := int(members.sum()), 1 / n)
            axes.hist(inside[members], edges.tolist(), weights=weights, **look)
    axes.locator_params(axis="x", nbins=4)
    axes.set_ylim(top=min(axes.get_ylim()[1], 1))  # a share


def plot_training(source: Source, dataset: str, category: str, variant: str) -> Drawing:
    """Draw the loss and its two parts over the epochs, one line per seed."""
    trainings = source.trainings()
    first = trainings[0]["history"]
    title = f"Training of {variant} on {dataset}, {category}"
    if first.empty:
        return nothing_to_draw(dataset, title, "Fitted in closed form: there are no epochs.")
    parts = {part: title for part, title in _CURVES.items() if f"val_{part}" in first}
    figure = Figure(figsize=(3 * len(parts), 2.9), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False).ravel()
    for axes, (part, name) in zip(panels, parts.items(), strict=True):
        for training in trainings:
            history = training["history"]
            epochs, validation = history["epoch"], history[f"val_{part}"]
            (line,) = axes.plot(epochs, validation, label=f"seed {training['seed']}")
            colour, best = line.get_color(), epochs == training["best_epoch"]
            axes.plot(epochs, history[f"train_{part}"], "--", color=colour, linewidth=0.9)
            axes.plot(epochs[best], validation[best], color=colour, **_DOT)
        axes.set(title=name, xlabel="Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panels[0].plot([], [], "k-", label="validation normals")
    panels[0].plot([], [], "k--", linewidth=0.9, label="training normals")
    panels[0].plot([], [], "ko", markersize=5, label="kept epoch")
    legend_below(figure, 6)
    text = (
        "Dashed: training normals. Solid: validation normals. One colour per seed; the dot is the "
        "epoch whose model is kept."
    )
    return Drawing(figure, Caption(dataset, title, text))
