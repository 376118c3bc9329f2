"""What does one key of the configuration change? And how much should the flow's score weigh?

Weighting is the ablations of `score.beta`, with a table and a figure of its own. Categories are
averaged first, within each seed. Every seed chooses its own beta, one for all categories.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aeflow.display.dots import keep_possible, spread
from aeflow.display.figure import (
    DARK,
    ONE_COLUMN,
    ORANGE,
    ROW,
    TWO_COLUMNS,
    Caption,
    Drawing,
    legend_below,
    nothing_to_draw,
)
from aeflow.display.table import LABELS, DisplayTable, best, intervals, number, percents, plain
from aeflow.judging.over_seeds import over_seeds
from aeflow.questions.source import Source, means

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER_BETA = 0.9
_SHARES = ["val_auroc", "image_auroc", "f1", "oracle_f1", "pixel_auroc", "aupro"]
_COST = {"fit_seconds": "Fit (s)", "peak_rss_mib": "Memory (MiB)"}
_ROW = ["dataset", "ablation", "of", "key", "value", "across", "variant", "trained_as"]
_KIND = ["flow", "reconstruction", "scaling"]  # keys of `score`
_COMBINATION = ["dataset", "variant", *_KIND, "across"]
_PANEL = ["variant", "scaling", "across", "reconstruction"]
_AUROCS = ["val_auroc", "test_auroc"]
# The betas that the weighting table names, as far as an ablation lists them.
_NAMED = {"paper_": PAPER_BETA, "reconstruction_only_": 0.0, "flow_only_": 1.0}
_WHY = {
    "val_auroc": "No validation AUROC to choose by: images of one class, or no result. ",
    "test_auroc": "No test AUROC: images of one class, or no result.",
}
_IMAGES = {
    "val_auroc": ("validation", ORANGE, "s", -0.14),
    "image_auroc": ("test", DARK, "o", 0.14),
}
_CHARACTERS = 12.5  # of a panel's title, an inch
_DASHED: dict[str, Any] = {"linestyle": "--", "linewidth": 1}
_DOT: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 4, "zorder": 4}
_RING: dict[str, Any] = {**_DOT, "markerfacecolor": "none", "markersize": 7}


def ablations_table(source: Source) -> pd.DataFrame:
    """Return mean and sd over seeds for every value of every ablation but those of beta.

    Returns:
        dataset, ablation, of, key, value, across (further keys that differ), variant, trained_as,
        is_default, n_seeds, then `<metric>_mean`, `_sd`, `_low` and `_high` (`over_seeds`) of
        AUROCs, F1, pixel metrics and cost. A value without runs has no numbers.
    """
    rows = [
        row | {"value": _text(row["value"]), "across": _settings(row["across"])}
        for row in source.study.ablation_rows()
        if row["key"] != "score.beta"
    ]
    table = pd.DataFrame(rows, columns=[*_ROW, "is_default"]).astype(dict.fromkeys(_ROW, "str"))
    metrics = [*_SHARES, *_COST]
    found = means(source.table("results"), ["dataset", "variant"], metrics)
    return table.merge(found, on=["dataset", "variant"], how="left").astype({"n_seeds": "Int64"})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _settings(across: dict[str, Any]) -> str:
    return ", ".join(f"{key}={_text(value)}" for key, value in across.items())


def _per_seed(source: Source, metrics: list[str]) -> pd.DataFrame:
    """Return dataset, variant, seed and `metrics`, the mean over all categories or NaN."""
    groups = source.table("results").groupby(["dataset", "variant", "seed"], sort=False)
    return groups[metrics].mean(skipna=False).reset_index()


def ablations_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return the ablations for people, the value that the changed variant has marked."""
    cells = pd.DataFrame(
        {
            "Dataset": table["dataset"],
            "Ablation": table["ablation"] + " of " + table["of"].map(source.study.label),
            "Key": table["key"],
            "Value": table["value"] + table["is_default"].map({True: " (default)", False: ""}),
            "With": table["across"],
            "Trained as": table["trained_as"],
            "Seeds": [number(count, 0) for count in table["n_seeds"]],
        }
    )
    labels = {"val_auroc": "Validation AUROC", **{name: LABELS[name] for name in _SHARES[1:]}}
    for name, label in labels.items():
        cells[label] = percents(table, name)
        if name == "image_auroc":
            cells["AUROC interval"] = intervals(table, name)
    for name, label in _COST.items():
        cells[label] = [number(mean, 1) for mean in table[f"{name}_mean"]]
    if table.empty:
        return plain(cells, "The configuration names no ablation of these datasets.", long=True)
    shown = plain(
        cells,
        "Percent, mean ± sd over seeds, categories averaged first; one key differs at a time. "
        "Interval: Student's 95 % interval over seeds, cut at 0 and 100. A variant's own value "
        "shares its training. Validation AUROC is empty where validation has no anomalies, pixel "
        "metrics where there are no masks or no map. F1 uses a threshold fitted on validation "
        "images, F1 (oracle) the best one for the test labels. Seconds and memory: one "
        "training's. Bold: highest of an ablation, the oracle aside; no test says it is better.",
        long=True,
    )
    judged = [name for name in _SHARES if name != "oracle_f1" and labels[name] in shown.cells]
    ablation = table["dataset"] + "/" + table["ablation"]
    marks = best(table, [f"{name}_mean" for name in judged], ablation)
    shown.bold[[labels[name] for name in judged]] = marks.to_numpy()
    return shown


def plot_ablations(source: Source, dataset: str) -> Drawing:
    """Draw validation and test AUROC, a panel per ablation, a row per value."""
    from matplotlib.figure import Figure

    table = ablations_table(source)
    own = table[table["dataset"] == dataset]
    panels = list(own.groupby(["ablation", "of", "across"], sort=False))
    title = f"Ablations on {dataset}"
    if not panels:
        return nothing_to_draw(dataset, title, "There is no ablation of this dataset.")
    seeds = _per_seed(source, list(_IMAGES))
    seeds = seeds[seeds["dataset"] == dataset]
    columns = 1 if len(panels) < 3 else 3
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    sizes = [len(values) for _, values in panels]
    heights = [max(sizes[first : first + columns]) for first in range(0, len(sizes), columns)]
    figure = Figure(figsize=(width, sum(ROW * n + 0.85 for n in heights) + ROW))
    look: dict[str, Any] = {"squeeze": False, "gridspec_kw": {"height_ratios": heights}}
    grid = figure.subplots(len(heights), columns, **look).ravel()
    for axes, ((name, of, across), values) in zip(grid, panels, strict=False):
        parts = [f"{source.study.label(str(of))}: {name}", values["key"].iloc[0]]
        # Beside the names of its values a panel has three fifths of the space.
        axes.set_title(_titled([*parts, *str(across).split(", ")], 0.6 * width / columns))
        axes.margins(x=0.1)
        axes.set_xlabel("AUROC (%)")
        _draw_values(axes, values.reset_index(drop=True), seeds)
        keep_possible(axes, "x")
    for axes in grid[len(panels) :]:
        axes.remove()
    legend_below(figure, 3)
    text = (
        "One key differs at a time; beside each value the mean seconds of one training. Large "
        "marks and bars: mean over seeds, sd; small marks: one seed each, categories averaged. "
        "Shaded: the value that the variant has anyway. Choices may follow the validation AUROC, "
        "never the test's."
    )
    return Drawing(figure, Caption(dataset, title, text))


def _draw_values(axes: Axes, values: pd.DataFrame, seeds: pd.DataFrame) -> None:
    """Draw the values of one ablation from top to bottom."""
    known = [name for name in _IMAGES if values[f"{name}_mean"].notna().any()]
    for name in known:
        label, colour, marker, shift = _IMAGES[name]
        place = values.index.to_numpy() + (shift if len(known) > 1 else 0)
        mean = values[f"{name}_mean"]
        sd = spread(mean, values[f"{name}_sd"])
        look: dict[str, Any] = {"fmt": marker, "color": colour, "elinewidth": 0.9, "capsize": 1.5}
        axes.errorbar(100 * mean, place, xerr=sd, label=label, **look)
        for y, variant in zip(place, values["variant"], strict=True):
            single = 100 * seeds.loc[seeds["variant"] == variant, name]
            if len(single) < 2:  # one seed is the mean itself
                continue
            beside = np.full(len(single), y + 0.16 * np.sign(shift))
            look = {"color": colour, "markersize": 2, "alpha": 0.6, "markeredgewidth": 0}
            axes.plot(single, beside, marker, **look)
    if not known:
        look = {"ha": "center", "color": "0.4", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "no AUROC", **look)
    for place in values.index[values["is_default"]]:
        look = {"color": "0.92", "zorder": 0, "linewidth": 0}
        axes.axhspan(place - 0.5, place + 0.5, label="the variant's own value", **look)
    seconds = [number(value, 1) for value in values["fit_seconds_mean"]]
    rows = zip(values["value"], seconds, strict=True)
    axes.set_yticks(values.index, [f"{value}  ({s} s)" if s else value for value, s in rows])
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=4)


def _titled(parts: Sequence[str], inches: float) -> str:
    """Return a panel's title, a part a line or several; keys lose their section there."""
    short = [re.sub(r"^[a-z]+\.(?=\w+=)", "", part) for part in parts]
    lines = (wrap(part, int(_CHARACTERS * inches), break_long_words=False) for part in short)
    return "\n".join(line for found in lines for line in found)


def weighting_table(source: Source) -> pd.DataFrame:
    """Return what the choice of beta on validation images gives, beside fixed betas.

    Chosen is the beta of the highest validation AUROC; among equals the one nearest to the
    paper's 0.9, and of two equally near the higher one. `oracle_beta` is the same choice by test
    labels: what a choice of beta could reach at best, not a result.

    Returns:
        A row per changed variant and kind of score: dataset, variant, flow, reconstruction,
        scaling, across (further keys that differ), n_seeds, then `_mean`, `_sd`, `_low` and
        `_high` (`over_seeds`) of beta, val_auroc and test_auroc as chosen, with `oracle_` those
        of the oracle, with `paper_`, `reconstruction_only_` and `flow_only_` the AUROCs at 0.9, 0
        and 1; reason, a sentence where something is missing.
    """
    return _weighted(_sweep(source))


def _sweep(source: Source) -> pd.DataFrame:
    """Return `_COMBINATION`, beta, seed, val_auroc and test_auroc of every run over beta."""
    rows = []
    for row in source.study.ablation_rows():
        if row["key"] == "score.beta":
            score = source.study.cell(row["dataset"], row["variant"]).score.model_dump(mode="json")
            known = {f"score.{name}" for name in _KIND}
            across = {key: value for key, value in row["across"].items() if key not in known}
            rows.append(score | row | {"run": row["variant"], "across": _settings(across)})
    texts = dict.fromkeys([*_COMBINATION, "run", "of"], "str")
    table = pd.DataFrame(rows, columns=[*texts, "beta"]).astype(texts | {"beta": "float64"})
    # Two ablations may list the same beta of the same kind of score.
    table = table.assign(variant=table["of"]).drop_duplicates([*_COMBINATION, "beta"])
    seeds = _per_seed(source, ["val_auroc", "image_auroc"])
    seeds = seeds.rename(columns={"variant": "run", "image_auroc": "test_auroc"})
    return table.merge(seeds, on=["dataset", "run"])[[*_COMBINATION, "beta", "seed", *_AUROCS]]


def _weighted(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return the weighting table of a sweep."""
    sweep = sweep.set_index([*_COMBINATION, "seed"])
    parts = {"": _best(sweep, "val_auroc"), "oracle_": _best(sweep, "test_auroc")}
    parts |= {name: sweep.loc[sweep["beta"] == beta, _AUROCS] for name, beta in _NAMED.items()}
    table = pd.DataFrame(index=sweep.index.drop_duplicates())
    table = table.join([part.add_prefix(name) for name, part in parts.items()])
    lacking = [sweep[name].isna().map({True: why, False: ""}) for name, why in _WHY.items()]
    reason = (lacking[0] + lacking[1]).groupby(_COMBINATION).max().rename("reason")
    summary = over_seeds(table.reset_index(), _COMBINATION, list(table.columns))
    return summary.join(reason, on=_COMBINATION)


def _best(sweep: pd.DataFrame, auroc: str) -> pd.DataFrame:
    """Return the row of the highest `auroc` for each kind of score and seed that has one."""
    ranked = sweep.assign(near=-(sweep["beta"] - PAPER_BETA).abs()).dropna(subset=auroc)
    ranked = ranked.sort_values([auroc, "near", "beta"], ascending=False).drop(columns="near")
    return ranked[~ranked.index.duplicated()]


def weighting_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return `weighting_table` for people: a row per dataset, variant and kind of score."""
    cells = table[_COMBINATION].copy()
    cells.columns = pd.Index(["Dataset", "Variant", "S_flow", "S_recon", "Scaling", "With"])
    if table.empty:
        why = "The configuration names no ablation of score.beta for these datasets."
        return plain(cells, why, long=True)
    for label, name in (
        ("Beta", "beta"),
        ("AUROC, validation", "val_auroc"),
        ("AUROC, test", "test_auroc"),
        (f"Test at beta {PAPER_BETA}", "paper_test_auroc"),
        ("Test at 0 (S_recon)", "reconstruction_only_test_auroc"),
        ("Test at 1 (S_flow)", "flow_only_test_auroc"),
        ("Beta (oracle)", "oracle_beta"),
        ("AUROC, test (oracle)", "oracle_test_auroc"),
    ):
        cells[label] = _betas(table, name) if name.endswith("beta") else percents(table, name)
    cells["Why empty"] = table["reason"].fillna("")
    seeds = "/".join(sorted({str(count) for count in table["n_seeds"]}))
    shown = plain(
        cells,
        f"AUROC in percent, mean ± sd over seeds ({seeds}), categories averaged first. Beta is "
        "the weight of S_flow, chosen by each seed on validation images; among equals the nearest "
        "to the paper's 0.9. Oracle: chosen by test labels, what a choice could reach at best, "
        "not a result. Bold: the kind of score with the highest validation AUROC of a variant.",
        long=True,
    )
    mark = best(table, ["val_auroc_mean"], table["dataset"] + "/" + table["variant"])
    for label in {"AUROC, validation", "AUROC, test"} & set(shown.cells):
        shown.bold[label] = mark["val_auroc_mean"]
    return shown


def _betas(table: pd.DataFrame, name: str) -> list[str]:
    """Format betas, with their sd where the seeds differ."""
    return [
        number(mean, 2) + (f" ± {number(sd, 2)}" if pd.notna(sd) and round(sd, 2) > 0 else "")
        for mean, sd in zip(table[f"{name}_mean"], table[f"{name}_sd"], strict=True)
    ]


def plot_weighting(source: Source, dataset: str) -> Drawing:
    """Draw AUROC over beta, a panel per variant, S_recon and scaling, a line per S_flow.

    Panels follow each other: variants with other decoders have other S_recon, so they make no
    grid.
    """
    from matplotlib.figure import Figure

    sweep = _sweep(source)
    sweep = sweep[sweep["dataset"] == dataset]
    curves = over_seeds(sweep, [*_COMBINATION, "beta"], _AUROCS).sort_values("beta")
    colours = {flow: f"C{place}" for place, flow in enumerate(sweep["flow"].unique())}
    panels = list(_weighted(sweep).groupby(_PANEL, sort=False))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width = ONE_COLUMN if columns < 3 else TWO_COLUMNS
    figure = Figure(figsize=(width, 1.65 * rows + 3 * ROW))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, ((variant, scaling, across, reconstruction), own) in zip(
        grid.ravel(), panels, strict=False
    ):
        score = f"S_recon {reconstruction}, {scaling}"
        parts = [source.study.label(str(variant)), score, *str(across).split(", ")]
        axes.set_title(_titled(parts, width / columns))
        _draw_lines(axes, own, curves, colours)
        axes.set(xlim=(-0.04, 1.04), xticks=[0, 0.5, 1])
    for axes in grid.ravel()[len(panels) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("AUROC (%)")
    for axes in grid.ravel()[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("Beta, weight of S_flow")
    for axes in grid.ravel()[: len(panels)]:
        keep_possible(axes, "y")
    looks: dict[str, dict[str, Any]] = {"test": {}}
    if sweep["val_auroc"].notna().any():
        looks |= {"validation": _DASHED, "chosen on validation": _DOT}
    for label, look in (looks | {"oracle": _RING}).items():
        grid[0, 0].plot([], [], color="k", label=label, **look)
    legend_below(figure, 3 if columns > 2 else 2)
    text = (
        "Mean over seeds, shaded: ± sd; categories are averaged first. Solid: test images. "
        "Dashed: validation images. Dot: the test AUROC of the beta that validation chooses, "
        "ring: of the best beta by test labels (oracle, not a result); where seeds choose "
        "different betas, both are means over seeds and may lie off the line. Dotted: the "
        "paper's beta, 0.9. At beta 0 the score is S_recon alone, at 1 S_flow."
    )
    return Drawing(figure, Caption(dataset, f"AUROC over beta on {dataset}", text))


def _draw_lines(
    axes: Axes, own: pd.DataFrame, curves: pd.DataFrame, colours: Mapping[str, str]
) -> None:
    """Draw the curves of one panel's kinds of score, and what is chosen."""
    axes.axvline(PAPER_BETA, color="0.6", linestyle=":", linewidth=1)
    for _, row in own.iterrows():
        flow, colour = row["flow"], colours[row["flow"]]
        curve = curves[(curves[_COMBINATION] == row[_COMBINATION]).all(axis=1)]
        looks = {"test_auroc": {"label": f"S_flow = {flow}"}, "val_auroc": _DASHED}
        for name, look in looks.items():
            mean = 100 * curve[f"{name}_mean"]
            lower, upper = spread(curve[f"{name}_mean"], curve[f"{name}_sd"])
            axes.plot(curve["beta"], mean, color=colour, **look)
            ends = mean - lower, mean + upper
            axes.fill_between(curve["beta"], *ends, color=colour, alpha=0.15, lw=0)
        for prefix, look in (("", _DOT), ("oracle_", _RING)):
            beta, auroc = row[f"{prefix}beta_mean"], row[f"{prefix}test_auroc_mean"]
            axes.plot(beta, 100 * auroc, color=colour, **look)
    if own["reason"].str.contains(_WHY["test_auroc"], regex=False).all():
        place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, own["reason"].iloc[0], wrap=True, **place)
