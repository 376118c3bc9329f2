"""Dot plots: variants against the reference, per category, and against published numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aeflow.core.types import Method
from aeflow.display.figure import STYLE, Caption, Drawing
from aeflow.display.table import LABELS, points
from aeflow.judging.over_seeds import over_seeds
from aeflow.questions.categories import MEAN
from aeflow.questions.variants import LEVEL

_DARK, _LIGHT, _GRAY = "#0072B2", "#A6CEE3", "0.45"
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_PUBLISHED = "#D55E00"
_MARKERS = "osD^vPX"
_ENDS = ["difference", "low", "high", "seed_low", "seed_high"]
_FAR = 0.15  # a difference beyond this many points is written, not drawn, where others are nearer
_PANELS = ("image_auroc", "pixel_auroc", "aupro")


def plot_variants(results: pd.DataFrame, comparison: pd.DataFrame, dataset: str) -> Drawing:
    """Draw each variant's AUROC, its difference to the reference and, with masks, its AUPRO.

    The interval over test images is DeLong's of the mean AUROC over seeds: it belongs to the dot,
    also for several categories, where a bootstrap of one seed would belong to neither.

    Args:
        results: Output of `results_table`.
        comparison: Output of `comparison_table`.
        dataset: whose variants, from top to bottom as in `comparison`.
    """
    rows = comparison[comparison["dataset"] == dataset].reset_index(drop=True)
    seeds = _per_seed(results[results["dataset"] == dataset], list(rows["variant"]))
    means = over_seeds(seeds, ["variant"], ["image_auroc", "aupro"]).set_index("variant")
    means = means.loc[rows["variant"]].reset_index()
    pixels = bool(means["aupro_mean"].notna().any())
    with style.context(STYLE):
        n_panels = 3 if pixels else 2
        size = (2.9 * n_panels + 0.9, 0.3 * len(rows) + 1.5)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, n_panels, sharey=True)
        _label_rows(list(panels), list(rows["variant"]))
        aurocs = rows["auroc_low"], rows["auroc_high"]
        _draw_seeds(panels[0], means, seeds, "image_auroc", aurocs)
        panels[0].set(xlabel="Image AUROC (%)")
        trivial = set(results.loc[results["method"] == Method.GRADIENT, "variant"])
        for value in means.loc[means["variant"].isin(trivial), "image_auroc_mean"]:
            panels[0].axvline(100 * value, color=_GRAY, linewidth=1, linestyle=":", zorder=0)
        _draw_differences(panels[1], rows)
        if pixels:
            _draw_seeds(panels[2], means, seeds, "aupro")
            panels[2].set(xlabel="AUPRO (%)")
        kept = _legend(bool(trivial & set(rows["variant"])))
        figure.legend(handles=kept, loc="outside lower center", ncols=3)
    reference = rows["reference"].iloc[0]
    text = (
        "Dots: mean over seeds, categories averaged; ticks: single seeds. Thin dark bar: "
        "Student's 95 % interval over seeds, the test images fixed. Wide light bar: DeLong's 95 % "
        "interval over test images, the trained models fixed. A bar that reaches the edge of its "
        f"panel goes on there. Differences are to {reference}; a filled dot is significant after "
        f"Holm's correction (p < {LEVEL}, DeLong). An arrow with a "
        f"number is a difference of more than {100 * _FAR:.0f} points, filled likewise."
    )
    return Drawing(figure, Caption(dataset, f"Variants on {dataset}", text))


def _per_seed(results: pd.DataFrame, variants: list[str]) -> pd.DataFrame:
    """Return AUROC and AUPRO of each seed, the mean over its categories."""
    own = results[results["variant"].isin(variants)]
    groups = own.groupby(["variant", "seed"], sort=False)
    return groups[["image_auroc", "aupro"]].mean(skipna=False).reset_index()


def _label_rows(panels: Sequence[Axes], names: Sequence[str]) -> None:
    """Name the rows that the panels share, from top to bottom."""
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    for axes in panels[1:]:
        axes.tick_params(axis="y", left=False)


def _draw_seeds(
    axes: Axes,
    means: pd.DataFrame,
    seeds: pd.DataFrame,
    metric: str,
    images: tuple[pd.Series, pd.Series] | None = None,
) -> None:
    """Draw mean, seeds, interval over seeds and, where given, over test images, in percent."""
    place = {name: row for row, name in enumerate(means["variant"])}
    values = 100 * seeds[metric]
    kept = [values]
    if images is not None:
        _bars(axes, 100 * images[0], 100 * images[1], wide=True)
        kept += [100 * end for end in images]
    low, high = (100 * means[f"{metric}_{end}"] for end in ("low", "high"))
    _bars(axes, low, high)
    axes.plot(values, seeds["variant"].map(place), "|", color="black", markersize=10, zorder=3)
    mean = 100 * means[f"{metric}_mean"]
    axes.plot(mean, means.index, "o", color=_DARK, markeredgecolor="white", zorder=4)
    _limit(axes, kept)


def _draw_differences(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the differences to the reference, in percentage points.

    A variant that is far off, as the autoencoder may be, would squeeze all others: its difference
    is written at the edge, beside an arrow.
    """
    far = rows["difference"].abs() > _FAR
    if not (rows["difference"].abs() <= _FAR).any():
        far[:] = False
    for place in map(int, np.flatnonzero(far)):
        difference, significant = rows["difference"][place], rows["p_holm"][place] < LEVEL
        left, arrows = difference < 0, "◀▶" if significant else "◁▷"
        text = f"{arrows[0]} {points(difference)}" if left else f"{points(difference)} {arrows[1]}"
        look: dict[str, Any] = {"ha": "left" if left else "right", "color": _DARK, "fontsize": 8}
        edge = axes.get_yaxis_transform()
        axes.text(0.02 if left else 0.98, place, text, va="center", transform=edge, **look)
    rows = rows.assign(**rows[_ENDS].mask(far))
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    _bars(axes, 100 * rows["low"], 100 * rows["high"], wide=True)
    _bars(axes, 100 * rows["seed_low"], 100 * rows["seed_high"])
    for place, row in enumerate(rows.to_dict("records")):
        fill = _DARK if row["p_holm"] < LEVEL else "white"
        options: dict[str, Any] = {"markeredgecolor": _DARK, "markerfacecolor": fill, "zorder": 4}
        axes.plot(100 * row["difference"], place, "o", **options)
        if row["variant"] == row["reference"]:
            axes.text(0, place, "reference  ", ha="right", va="center", fontsize=8, color=_GRAY)
    axes.set(xlabel="Difference of AUROC (points)")
    _limit(axes, [100 * rows["low"], 100 * rows["high"], 100 * rows["difference"], pd.Series([0])])


def _bars(
    axes: Axes, low: pd.Series, high: pd.Series, *, wide: bool = False, first: int = 0
) -> None:
    """Draw intervals, one per row from the row `first` on; NaN draws nothing."""
    colour, width, order = (_LIGHT, 6.0, 1) if wide else (_DARK, 1.2, 2)
    places = range(first, first + len(low))
    axes.hlines(places, low, high, color=colour, linewidth=width, zorder=order)


def _limit(axes: Axes, kept: Sequence[pd.Series]) -> None:
    """Show these values whole: an interval over two seeds may be a hundred times as wide."""
    values = pd.concat(kept).dropna()
    if len(values):
        margin = 0.06 * float(np.ptp(values)) or 1.0
        axes.set_xlim(values.min() - margin, values.max() + margin)
    axes.grid(axis="x", color="0.92", zorder=0)
    axes.set_axisbelow(True)


def _legend(trivial: bool) -> list[Line2D]:
    lines = [
        Line2D([], [], marker="o", color="none", markerfacecolor=_DARK, markeredgecolor="white"),
        Line2D([], [], marker="|", linestyle="", color="black", markersize=7),
        Line2D([], [], color=_DARK, linewidth=1.2),
        Line2D([], [], color=_LIGHT, linewidth=6),
        Line2D([], [], color=_GRAY, linewidth=1, linestyle=":"),
        Line2D([], [], marker="o", linestyle="", markerfacecolor="white", markeredgecolor=_DARK),
    ]
    labels = [
        *["mean over seeds", "one seed", "95 %, other seeds", "95 %, other test images"],
        *["trivial baseline", "difference not significant"],
    ]
    for line, label in zip(lines, labels, strict=True):
        line.set_label(label)
    return [line for line in lines if trivial or line.get_linestyle() != ":"]


def plot_categories(table: pd.DataFrame, dataset: str, reference: str) -> Drawing:
    """Draw every variant on every category, sorted by the reference's AUROC.

    Args:
        table: Output of `categories_table`.
        dataset: one with several categories.
        reference: the variant that sorts; without it, or without its AUROC, the order stays.
    """
    rows = table[table["dataset"] == dataset]
    order = rows[rows["variant"] == reference].sort_values(
        "image_auroc_mean", ascending=False, kind="stable"
    )["category"]
    names = list(dict.fromkeys([*order, *rows["category"]]))
    names = [name for name in names if name != MEAN] + [MEAN]
    place = {name: index for index, name in enumerate(names)}
    variants = list(rows["variant"].unique())
    shown = [metric for metric in _PANELS if rows[f"{metric}_mean"].notna().any()] or [_PANELS[0]]
    with style.context(STYLE):
        height = max(0.32, 0.1 * len(variants)) * len(names) + 1.3
        figure = Figure(figsize=(2.7 * len(shown) + 1.2, height), layout="constrained")
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False).ravel()
        _label_rows(list(panels), [*names[:-1], "mean of all"])
        for axes, metric in zip(panels, shown, strict=True):
            axes.axhline(len(names) - 1.5, color="0.6", linewidth=0.8)
            for number, variant in enumerate(variants):
                own = rows[rows["variant"] == variant]
                offset = 0.6 * ((number + 0.5) / len(variants) - 0.5)
                axes.errorbar(
                    100 * own[f"{metric}_mean"],
                    own["category"].map(place) + offset,
                    xerr=100 * own[f"{metric}_sd"].fillna(0),
                    fmt=_MARKERS[number // len(_COLOURS) % len(_MARKERS)],
                    color=_COLOURS[number % len(_COLOURS)],
                    markersize=4.5,
                    elinewidth=1,
                    label=variant,
                )
            axes.set(xlabel=f"{'Image ' if metric == 'image_auroc' else ''}{LABELS[metric]} (%)")
            axes.grid(axis="x", color="0.92")
            axes.set_axisbelow(True)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
    text = (
        "Dots: mean over seeds; bars: ± sd over seeds, none for one seed. Categories are sorted "
        f"by the AUROC of {reference}; the last row averages them within each seed first."
    )
    return Drawing(figure, Caption(dataset, f"Categories of {dataset}", text))


def plot_claims(claims: pd.DataFrame, dataset: str) -> Drawing:
    """Draw published numbers and ours, a panel per metric, a row per source and variant.

    Args:
        claims: Output of `claims_table`.
        dataset: one with published numbers.
    """
    rows = claims[claims["dataset"] == dataset]
    theirs = (rows["who"] + ", " + rows["detail"]).str.removesuffix(", ")
    rows = rows.assign(source=theirs)
    ours = rows[rows["variant"] != ""].drop_duplicates(["variant", "ours_metric"])
    roles = dict(zip(ours["variant"], ours["role"], strict=True))
    names = list(dict.fromkeys(theirs))
    shown = [metric for metric in LABELS if metric in set(rows["ours_metric"])]
    with style.context(STYLE):
        height = 0.32 * (len(names) + len(roles)) + 1.1
        figure = Figure(figsize=(1.3 * len(shown) + 2.4, height), layout="constrained")
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False).ravel()
        _label_rows(list(panels), [*names, *(f"{name} ({role})" for name, role in roles.items())])
        for axes, metric in zip(panels, shown, strict=True):
            axes.axhline(len(names) - 0.5, color="0.6", linewidth=0.8)
            printed = rows[rows["ours_metric"] == metric]
            for source, value in zip(printed["source"], printed["published"], strict=True):
                fill = _PUBLISHED if source.startswith("paper") else "white"
                options: dict[str, Any] = {"color": _PUBLISHED, "markerfacecolor": fill}
                axes.plot(100 * value, names.index(source), "D", **options)
            own = ours[ours["ours_metric"] == metric].set_index("variant").reindex(list(roles))
            own = own.reset_index()
            _bars(axes, 100 * own["ours_low"], 100 * own["ours_high"], first=len(names))
            axes.plot(100 * own["ours_mean"], own.index + len(names), "o", color=_DARK, zorder=4)
            mean = 100 * own["ours_mean"]
            low = (100 * own["ours_low"]).clip(lower=mean - 10)
            high = (100 * own["ours_high"]).clip(upper=mean + 10)
            _limit(axes, [100 * printed["published"], mean, low, high])
            axes.set(xlabel=f"{LABELS[metric]} (%)")
    text = (
        "Diamonds: published, filled the paper's, hollow the reproductions'. Dots: ours, mean "
        "over seeds, with Student's 95 % interval; a bar that reaches the edge of its panel goes "
        "on there. An F1 whose threshold was fitted on test labels stands beside our oracle F1. "
        "What differs between the experiments is in the table."
    )
    return Drawing(figure, Caption(dataset, f"Published numbers and ours on {dataset}", text))
