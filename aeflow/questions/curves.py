"""Figures from metrics, scores and training histories."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aeflow.core.types import ANOMALOUS, Split
from aeflow.display.figure import STYLE, Caption, Drawing
from aeflow.display.table import percent
from aeflow.judging.evaluation import combined_score
from aeflow.questions.results import main_table, results_table
from aeflow.scoring.combine import component, components

Array = npt.NDArray[np.float64]
_GRID = np.linspace(0, 1, 401)
_CURVES = {
    "loss": "Loss",
    "flow_nll": "Flow: negative log-likelihood",
    "reconstruction": "Reconstruction error",
}
_DOT: dict[str, Any] = {"marker": "o", "linestyle": "", "markeredgecolor": "white", "zorder": 4}
_NORMAL_COLOUR, _ANOMALOUS_COLOUR = "#0072B2", "#D55E00"


def plot_roc(metrics: Sequence[dict[str, Any]]) -> Drawing:
    """Draw the ROC curves of one dataset's variants.

    A thin line is one seed, its categories averaged vertically (mean sensitivity at each
    false-positive rate); the thick line is the mean over seeds; a dot is a seed at the threshold
    fitted on validation images.

    Args:
        metrics: Contents of the metrics files of one dataset; `roc` may be empty.
    """
    dataset = metrics[0]["dataset"]
    table = main_table(results_table(metrics)).set_index("variant")
    with style.context(STYLE):
        figure = Figure(figsize=(5.9, 4), layout="compressed")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
        dashes = cycle(["-"] * 7 + ["--"] * 7 + ["-."] * 7)
        for variant, row in table.iterrows():
            label = percent(row["image_auroc_mean"], row["image_auroc_sd"])
            runs = [run for run in metrics if run["variant"] == variant and run["roc"]["fpr"]]
            if runs:
                _draw_roc(axes, runs, f"{variant}  {label}".rstrip(), next(dashes))
        axes.set(xlabel="1 − specificity (false-positive rate)", ylabel="Sensitivity")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title=dataset)
        if len(axes.lines) > 1:
            figure.legend(loc="outside right center", title="AUROC, mean ± sd (%)")
        else:
            axes.text(0.5, 0.6, "no ROC: the test images are of one class", ha="center")
    text = (
        "Thin lines: one seed each, categories averaged. Thick lines: mean over seeds. Dots: the "
        "threshold fitted on validation images, one per seed. Dotted diagonal: chance."
    )
    return Drawing(figure, Caption(dataset, f"ROC curves of {dataset}", text))


def _draw_roc(axes: Axes, runs: list[dict[str, Any]], label: str, dashes: str) -> None:
    seeds = sorted({run["seed"] for run in runs})
    curves = []
    (line,) = axes.plot([], [], dashes, label=label)
    for seed in seeds:
        own = [run for run in runs if run["seed"] == seed]
        curves.append(_mean_roc([run["roc"] for run in own]))
        points = [(1 - run["specificity"], run["sensitivity"]) for run in own if _judged(run)]
        if len(points) == len(own):
            axes.plot(*np.mean(points, axis=0), color=line.get_color(), **_DOT)
        if len(seeds) > 1:
            axes.plot(*curves[-1], dashes, color=line.get_color(), linewidth=0.6, alpha=0.5)
    line.set_data(np.mean(curves, axis=0))


def _judged(run: dict[str, Any]) -> bool:
    return run["specificity"] is not None and run["sensitivity"] is not None


def _mean_roc(curves: list[dict[str, list[float]]]) -> Array:
    """Average ROC curves vertically: (2, n), false-positive rates and sensitivities."""
    sensitivity = np.mean([np.interp(_GRID, roc["fpr"], roc["tpr"]) for roc in curves], axis=0)
    return np.vstack([np.r_[0.0, _GRID], np.r_[0.0, sensitivity]])


def plot_scores(scores: pd.DataFrame, metrics: dict[str, Any]) -> Drawing:
    """Draw histograms of the combined score and of each component, of one run.

    Args:
        scores: The run's score table.
        metrics: The run's metrics, for its settings and threshold.

    Raises:
        ConfigError: the metrics hold no valid score settings.
    """
    combined, threshold = combined_score(scores, metrics), metrics["threshold"]
    columns = {"combined score": combined} | {
        name: component(scores, name) for name in components(scores)
    }
    test_aurocs = {name: found["test_auroc"] for name, found in metrics["components"].items()}
    aurocs = {"combined score": metrics["image_auroc"]} | test_aurocs
    with style.context(STYLE):
        n_columns = min(4, len(columns))
        n_rows = -(-len(columns) // n_columns)
        figure = Figure(figsize=(2.6 * n_columns, 2.1 * n_rows + 0.5), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes, (name, values) in zip(grid, columns.items(), strict=False):
            _draw_histograms(axes, scores, values)
            axes.locator_params(axis="x", nbins=4)
            auroc = aurocs[name]
            known = "not known" if auroc is None else f"{percent(auroc)} %"
            axes.set_title(f"{name}\nAUROC {known}", fontsize=9)
        for axes in grid[len(columns) :]:
            axes.remove()
        if threshold is not None:
            label = "threshold (validation)"
            grid[0].axvline(threshold, color="black", linewidth=1, linestyle="--", label=label)
        grid[0].set_ylabel("Share of images")
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    dataset, *rest = (str(metrics[key]) for key in ("dataset", "category", "variant", "seed"))
    run = "{}, {}, {}, seed {}".format(dataset, *rest)
    text = (
        "Each class sums to 1. Higher means more anomalous. Scores outside the middle 99 % "
        "of all images are counted in the outermost bins."
    )
    return Drawing(figure, Caption(dataset, f"Scores of {run}", text))


def _draw_histograms(axes: Axes, scores: pd.DataFrame, values: Array) -> None:
    low, high = np.percentile(values, [0.5, 99.5])
    margin = 0.02 * (high - low) or 0.5  # all scores are equal
    edges = np.linspace(low - margin, high + margin, 31)
    inside = np.clip(values, edges[0], edges[-1])
    test = scores["split"].eq(Split.TEST).to_numpy()
    anomalous = scores["gt_label"].eq(ANOMALOUS).to_numpy()
    kinds: list[tuple[npt.NDArray[np.bool_], dict[str, Any]]] = [
        (test & ~anomalous, {"label": "test, normal", "color": _NORMAL_COLOUR, "alpha": 0.5}),
        (test & anomalous, {"label": "test, anomalous", "color": _ANOMALOUS_COLOUR, "alpha": 0.5}),
        (~test & ~anomalous, {"label": "validation, normal", "color": "k", "histtype": "step"}),
    ]
    for members, options in kinds:
        if members.any():
            weights = np.full(members.sum(), 1 / members.sum())
            axes.hist(inside[members], edges.tolist(), weights=weights, **options)


def plot_training(
    histories: Sequence[pd.DataFrame], trainings: Sequence[dict[str, Any]]
) -> Drawing:
    """Draw the loss and its two parts over the epochs, one line per seed.

    Args:
        histories: One history table per seed of one variant.
        trainings: The train JSON of each history from `read_training`, in the same order.
    """
    dataset, category, variant = (trainings[0][key] for key in ("dataset", "category", "variant"))
    parts = {
        part: title
        for part, title in _CURVES.items()
        if any(f"val_{part}" in history for history in histories)
    }
    with style.context(STYLE):
        figure = Figure(figsize=(3 * len(parts), 2.9), layout="constrained")
        panels = figure.subplots(1, len(parts), squeeze=False).ravel()
        for axes, (part, title) in zip(panels, parts.items(), strict=True):
            for history, training in zip(histories, trainings, strict=True):
                _draw_curve(axes, history, part, training)
            axes.set(title=title, xlabel="Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panels[0].plot([], [], "k-", label="validation normals")
        panels[0].plot([], [], "k--", linewidth=0.9, label="training normals")
        panels[0].plot([], [], "ko", markersize=5, label="kept epoch")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6)
    title = f"Training of {variant} on {dataset}, {category}"
    text = (
        "Dashed: training normals. Solid: validation normals. One colour per seed; the dot is the "
        "epoch whose model is kept."
    )
    return Drawing(figure, Caption(dataset, title, text))


def _draw_curve(axes: Axes, history: pd.DataFrame, part: str, training: dict[str, Any]) -> None:
    epochs, validation = history["epoch"], history[f"val_{part}"]
    (line,) = axes.plot(epochs, validation, label=f"seed {training['seed']}")
    axes.plot(epochs, history[f"train_{part}"], "--", color=line.get_color(), linewidth=0.9)
    kept = epochs == training["best_epoch"]
    axes.plot(epochs[kept], validation[kept], color=line.get_color(), **_DOT)
