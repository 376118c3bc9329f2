"""Curves behind the numbers: ROC, distributions of scores, losses of the trainings."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aeflow.core.types import ANOMALOUS, NORMAL, SCORE_TABLE_COLUMNS, Split
from aeflow.display.figure import (
    DARK,
    EMPHASIS,
    ONE_COLUMN,
    ORANGE,
    ROW,
    TWO_COLUMNS,
    Caption,
    Drawing,
    Look,
    legend_below,
    nothing_to_draw,
)
from aeflow.display.table import percent
from aeflow.judging.metrics import BOOTSTRAP_SEED, FEW, missing_class, threshold_curve
from aeflow.questions.source import Source, looks_on
from aeflow.scoring.predictions import SeedScores

Array = npt.NDArray[np.float64]
_GRID = np.linspace(0, 1, 401)
_LOW = 0.1  # the false-positive rates that have a panel of their own
_DRAWS = 200  # of the test images, for a band
_CURVES = {
    "loss": "Loss",
    "flow_nll": "Flow: negative log-likelihood",
    "reconstruction": "Reconstruction error",
}
_DOT: dict[str, Any] = {"linestyle": "", "markeredgecolor": "white", "zorder": 4}


def plot_roc(source: Source, dataset: str) -> Drawing:
    """Draw the ROC curves of one dataset's variants, low false-positive rates beside all.

    A line is the mean over seeds, categories averaged vertically (mean sensitivity at each
    false-positive rate) within each; a mark is a seed at the threshold fitted on validation
    images. Low rates have a panel and no inset, which would hide curves below chance.
    """
    shares = ["image_auroc", "specificity", "sensitivity"]
    title = f"ROC curves of {dataset}"
    table = pd.DataFrame(source.runs())[["category", "variant", "seed", *shares]]
    table[shares] = table[shares].astype("float64")
    variants = source.predictions(Split.TEST).get(dataset, {})
    labelled = {name: _known(scored) for name, scored in variants.items()}
    drawn = {name: known for name, known in labelled.items() if known}
    if not drawn:
        return nothing_to_draw(dataset, title, "No ROC: the test images are not of both classes.")
    seen = looks_on(source.study, dataset)
    coloured = [name for name in drawn if seen[name].emphasised]
    rows = len(coloured) + (len(coloured) < len(drawn)) + 1
    figure = Figure(figsize=(ONE_COLUMN, 2.2 + 0.14 * rows))
    low, whole = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [1, 1.7]})
    whole.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
    low.plot([0, _LOW], [0, _LOW], color="0.6", linewidth=0.8, linestyle=":")
    seeds = table.groupby(["variant", "seed"])["image_auroc"].mean(skipna=False)
    aurocs = seeds.groupby("variant").agg(["mean", "std"])
    highest = aurocs.loc[coloured, "mean"].sort_values(ascending=False, kind="stable").index
    banded = {source.study.reference, *[n for n in highest if n != source.study.reference][:1]}
    for name, known in drawn.items():
        auroc = percent(*aurocs.loc[name]) if seeds[name].notna().all() else ""
        label = f"{source.study.label(name)}  {auroc}".rstrip()
        label = label if name in coloured else f"{len(drawn) - len(coloured)} others"
        runs = table[(table["variant"] == name) & table["category"].isin(known)]
        points = runs.groupby("seed", sort=False)[["specificity", "sensitivity"]]
        marks = points.mean(skipna=False).to_numpy()
        _draw_roc([low, whole], label, seen[name], known, marks, name in banded)
    low.set(xlim=(0, _LOW), ylim=(0, 1), xticks=[0, _LOW], ylabel="Sensitivity", xlabel="FPR")
    whole.set(xlim=(0, 1), xlabel="False-positive rate (FPR)")
    for line in whole.lines:  # at an end they stay whole
        line.set_clip_on(False)
    legend_below(figure, 1, title="AUROC, mean ± sd over seeds (%)")
    text = (
        "Lines: mean over seeds, categories averaged. Left: the lowest rates. Bands, of the "
        "reference and of the highest other in colour: where the line lies for 95 % of "
        f"{_DRAWS} draws of the test images with replacement, at each rate by itself, the trained "
        f"models fixed; none with fewer than {FEW} images of a class. Marks: the threshold fitted "
        f"on validation images, one per seed. Dotted diagonal: chance. {EMPHASIS}"
    )
    return Drawing(figure, Caption(dataset, title, text))


def _known(scored: dict[str, SeedScores]) -> dict[str, SeedScores]:
    """Return the categories that have images of both classes."""
    return {name: s for name, s in scored.items() if not missing_class(s.labelled[0])}


def _draw_roc(
    panels: list[Axes],
    label: str,
    look: Look,
    known: dict[str, SeedScores],
    points: Array,
    banded: bool,
) -> None:
    """Draw one variant, from its scores by category and specificity and sensitivity by seed."""
    scored = [scores.labelled for scores in known.values()]
    rates, line = np.append(0, _GRID), _mean_curve(scored)
    band = _band(scored) if banded else None
    width, order = (1.1, 3) if look.emphasised else (0.6, 2)
    mark: dict[str, Any] = {"color": look.colour, "marker": look.marker}
    for axes in panels:
        # No mark lies on the line, but its legend shows whose marks are whose.
        drawn = mark | {"linestyle": look.line, "linewidth": width, "zorder": order}
        axes.plot(rates, line, label=label, markevery=[], **drawn)
        if band:
            axes.fill_between(rates, *band, color=look.colour, alpha=0.15, linewidth=0)
        if look.emphasised:
            axes.plot(1 - points[:, 0], points[:, 1], **_DOT | mark | {"markeredgewidth": 0.5})


def _mean_curve(scored: list[tuple[Array, Array]]) -> Array:
    """Return the ROC curve of categories, mean over seeds: 0, then sensitivities at `_GRID`."""
    curve: Array = np.mean([_sensitivities(*category).mean(axis=0) for category in scored], axis=0)
    return curve


def _band(scored: list[tuple[Array, Array]]) -> tuple[Array, Array] | None:
    """Return the ends of `_mean_curve` over draws of the images of each class."""
    classes = [[np.flatnonzero(gt == label) for label in (NORMAL, ANOMALOUS)] for gt, _ in scored]
    if min(len(images) for own in classes for images in own) < FEW:
        return None
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    curves = []
    for _ in range(_DRAWS):
        rows = [np.concatenate([generator.choice(i, len(i)) for i in own]) for own in classes]
        pairs = zip(scored, rows, strict=True)
        curves.append(_mean_curve([(gt[own], score[own]) for (gt, score), own in pairs]))
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    return low, high


def _sensitivities(gt_label: Array, scores: Array) -> Array:
    """Return the ROC curves of scores (N, S): 0, then sensitivities at the rates of `_GRID`."""
    found = []
    for curve in (threshold_curve(gt_label, values) for values in scores.T):
        fpr, tpr = np.append(0, curve.fp) / curve.normal, np.append(0, curve.tp) / curve.anomalous
        found.append(np.append(0, np.interp(_GRID, fpr, tpr)))
    return np.array(found)


def plot_scores(source: Source, dataset: str, category: str, variant: str) -> Drawing:
    """Draw the distribution of the combined score and of each component, of the first seed.

    A score that cannot be combined, as one without a scale, has none.
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
    width = ONE_COLUMN if n_columns < 3 else TWO_COLUMNS
    figure = Figure(figsize=(width, 1.5 * n_rows + 2 * ROW))
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).ravel()
    for axes, (name, values) in zip(grid, columns.items(), strict=False):
        _draw_distributions(axes, table, values)
        known = "not known" if aurocs[name] is None else f"{percent(aurocs[name])} %"
        axes.set_title(f"{name}\nAUROC {known}")
    for axes in grid[len(columns) :]:
        axes.remove()
    if "combined score" in columns and run["threshold"] is not None:
        look: dict[str, Any] = {"color": "black", "linewidth": 0.8, "linestyle": ":"}
        grid[0].axvline(run["threshold"], label="threshold (validation)", **look)
    for axes in grid[::n_columns]:
        axes.set_ylabel("Share of images")
    legend_below(figure, 4 if n_columns > 2 else 2)
    text = (
        "Each line tells which share of the images has this score or less. Higher means more "
        "anomalous. The axes show the middle 99 % of all images."
    )
    named = source.study.label(variant)
    title = f"Scores of {dataset}, {category}, {named}, seed {cell.seed}"
    return Drawing(figure, Caption(dataset, title, text))


def _draw_distributions(axes: Axes, table: pd.DataFrame, values: Array) -> None:
    low, high = np.percentile(values, [0.5, 99.5])
    margin = 0.02 * (high - low) or 0.5  # all scores are equal
    test, anomalous = table["split"].eq(Split.TEST), table["gt_label"].eq(ANOMALOUS)
    kinds: list[tuple[pd.Series, dict[str, Any]]] = [
        (test & ~anomalous, {"label": "test, normal", "color": DARK}),
        (
            test & anomalous,
            {"label": "test, anomalous", "color": ORANGE, "linestyle": (0, (5, 1))},
        ),
        (~test & ~anomalous, {"label": "validation, normal", "color": "0.6", "linewidth": 0.8}),
    ]
    for members, look in kinds:
        if members.any():
            axes.ecdf(values[members], **look)
    axes.locator_params(axis="x", nbins=4)
    axes.set(xlim=(low - margin, high + margin), ylim=(0, 1))


def plot_training(source: Source, dataset: str, category: str, variant: str) -> Drawing:
    """Draw the loss and its parts over the epochs, one line per seed."""
    trainings = source.trainings()
    first = trainings[0]["history"]
    title = f"Training of {source.study.label(variant)} on {dataset}, {category}"
    if first.empty:
        return nothing_to_draw(dataset, title, "Fitted in closed form: there are no epochs.")
    parts = {part: title for part, title in _CURVES.items() if f"val_{part}" in first}
    if len(parts) == 2:  # the loss is its only part
        del parts["loss"]
    figure = Figure(figsize=(TWO_COLUMNS if len(parts) > 1 else ONE_COLUMN, 1.8 + 2 * ROW))
    panels = figure.subplots(1, len(parts), squeeze=False).ravel()
    for axes, (part, name) in zip(panels, parts.items(), strict=True):
        for number, training in enumerate(trainings):
            history = training["history"]
            epochs, validation = history["epoch"], history[f"val_{part}"]
            colour = f"C{number}" if number < 5 else "0.7"
            label = f"seed {training['seed']}" if number < 5 else "further seeds"
            axes.plot(epochs, validation, color=colour, label=label)
            best = epochs == training["best_epoch"]
            axes.plot(epochs, history[f"train_{part}"], "--", color=colour, linewidth=0.8)
            axes.plot(epochs[best], validation[best], color=colour, marker="o", **_DOT)
        axes.set(title=name, xlabel="Epoch")
        _keep_settled(axes)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panels[0].plot([], [], "k-", label="validation normals")
    panels[0].plot([], [], "k--", linewidth=0.8, label="training normals")
    panels[0].plot([], [], "ko", label="kept epoch")
    legend_below(figure, 6 if len(parts) > 1 else 3)
    text = (
        "Dashed: training normals. Solid: validation normals. One colour per seed; the dot is the "
        "epoch whose model is kept. The first epochs may begin above their panel."
    )
    return Drawing(figure, Caption(dataset, title, text))


def _keep_settled(axes: Axes) -> None:
    """Let the losses rule the axis that come after the first twentieth of the epochs."""
    lines = [np.column_stack(line.get_data()) for line in axes.lines]
    last = max((line[:, 0].max() for line in lines if len(line)), default=0)
    shown = np.concatenate([line[line[:, 0] >= last / 20, 1] for line in lines])
    shown = shown[np.isfinite(shown)]
    if len(shown) and np.ptp(shown):
        margin = 0.05 * float(np.ptp(shown))
        axes.set_ylim(shown.min() - margin, shown.max() + margin)
