"""What does each part give, and is the difference real? Each variant beside the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aeflow.core.types import Method, Split
from aeflow.display.dots import bars, keep_whole, row_panels
from aeflow.display.figure import (
    DARK,
    GRAY,
    LIGHT,
    ROW,
    TWO_COLUMNS,
    Caption,
    Drawing,
    nothing_to_draw,
)
from aeflow.display.table import DisplayTable, number, percent, plain, points
from aeflow.judging.delong import (
    compare_aurocs,
    holm,
    mean_auroc,
    mean_comparison,
    mean_seed_differences,
    seed_differences,
)
from aeflow.questions.source import Source
from aeflow.scoring.predictions import SeedScores
from aeflow.study.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

LEVEL = 0.05  # of the tests, after Holm's correction
_COMPARISON = [
    *("dataset", "variant", "reference", "auroc", "auroc_low", "auroc_high", "reference_auroc"),
    *("difference", "low", "high", "z", "p_value", "p_holm"),
    *("seed_mean", "seed_sd", "seed_low", "seed_high", "n_seeds", "claim", "reason"),
]
_DECIDE = ["p_holm", "seed_low", "seed_high", "trained", "once"]
_FAR = 0.15  # a difference beyond this many points is written, not drawn, where others are nearer
_ENDS = ["difference", "low", "high", "seed_low", "seed_high"]


def comparison_table(source: Source) -> pd.DataFrame:
    """Return every variant's test AUROC beside the reference's, a family of tests per dataset.

    Returns:
        A row per dataset and named variant, shares in [0, 1]; differences are the variant's minus
        the reference's. `auroc_low` and `auroc_high` are DeLong's interval of the variant alone,
        cut at 0 and 1. `claim`: `is_claim`. A row of the reference itself has no difference.
    """
    study, reference = source.study, source.study.reference
    rows = []
    for dataset, variants in source.predictions(Split.TEST).items():
        for name, scores in variants.items():
            row = _row(name, scores, reference, variants.get(reference))
            if reference not in variants:
                row["reason"] = f"{study.label(reference)} has no result on this dataset."
            once = [
                side
                for side in (name, reference)
                if side in variants and _trained_once(study, side, variants[side])
            ]
            if once and name != reference:
                named = " and ".join(map(study.label, once))
                alone = f"One training of {named}: no claim about others."
                row["reason"] = " ".join(filter(None, [row["reason"], alone]))
            trained = any(study.draws(side) for side in (name, reference))
            rows.append({"dataset": dataset, "trained": trained, "once": bool(once), **row})
    table = pd.DataFrame(rows, columns=[*_COMPARISON, "trained", "once"])
    table = table.astype({"p_value": "float64"})
    table["p_holm"] = table.groupby("dataset")["p_value"].transform(holm)
    table["claim"] = [is_claim(*row) for row in table[_DECIDE].itertuples(index=False)]
    return table[_COMPARISON]


def is_claim(p_holm: float, seed_low: float, seed_high: float, trained: bool, once: bool) -> bool:
    """Whether a difference may be called one of the methods: what is bold, and a filled dot.

    Other test images would show it (DeLong's test after Holm's correction), and so would other
    trainings (Student's interval over seeds is on one side of 0). The second question is not there
    for two methods that nothing is trained of. Where a trained method has one seed, nobody knows.

    Args:
        trained: whether a training is behind one of both.
        once: whether such a one has a single score: of one seed, or an ensemble of all.
    """
    others_images = p_holm < LEVEL
    others_trainings = not once and (seed_low > 0 or seed_high < 0)
    return bool(others_images and (others_trainings or not trained))


def _trained_once(study: Study, name: str, scores: Mapping[str, SeedScores]) -> bool:
    return study.draws(name) and next(iter(scores.values())).score.shape[1] == 1


def _row(
    variant: str,
    first: Mapping[str, SeedScores],
    reference: str,
    second: Mapping[str, SeedScores] | None,
) -> dict[str, Any]:
    alone = mean_auroc([part.labelled for part in first.values()])
    row: dict[str, Any] = {"variant": variant, "reference": reference, "auroc": alone.auroc}
    if alone.interval is not None:
        row["auroc_low"], row["auroc_high"] = alone.interval
    if second is None:
        return row
    if variant == reference:
        seeds = next(iter(first.values())).score.shape[1]
        reason = " ".join(filter(None, ["This is the reference.", alone.reason]))
        return row | {"reference_auroc": alone.auroc, "n_seeds": seeds, "reason": reason}
    parts = [(*first[name].labelled, second[name].score) for name in first]
    tests = [compare_aurocs(*part) for part in parts]
    mean = mean_comparison(tests)
    row |= {name: getattr(mean, name) for name in ("difference", "low", "high", "z", "p_value")}
    row |= {"reference_auroc": mean.second}
    reasons = [next((test.reason for test in tests if test.reason), "")]
    if all(test.difference is not None for test in tests):
        seeds = mean_seed_differences([seed_differences(*part) for part in parts])
        row |= {f"seed_{end}": getattr(seeds, end) for end in ("mean", "sd", "low", "high")}
        row |= {"n_seeds": len(seeds.difference)}
    return row | {"reason": " ".join(filter(None, reasons))}


def comparison_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return the comparison for people; bold differences are claims (`is_claim`)."""
    rows = table[table["variant"] != table["reference"]].reset_index(drop=True)
    cells = pd.DataFrame(
        {
            "Dataset": rows["dataset"],
            "Variant": rows["variant"],
            "Reference": rows["reference"],
            "AUROC": rows["auroc"].map(percent),
            "Reference's": rows["reference_auroc"].map(percent),
            "Difference": rows["difference"].map(points),
            "Test images: 95 %": _ends(rows["low"], rows["high"]),
            "z": [number(z, 2).replace("-", "−") for z in rows["z"]],
            "p": rows["p_value"].map(p_text),
            "p (Holm)": rows["p_holm"].map(p_text),
            "Seed by seed": [
                points(mean) + ("" if pd.isna(sd) else f" ± {100 * sd:.1f}")
                for mean, sd in zip(rows["seed_mean"], rows["seed_sd"], strict=True)
            ],
            "Seeds: 95 %": _ends(rows["seed_low"], rows["seed_high"]),
            "Seeds": rows["n_seeds"].map(number),
            "Reason": rows["reason"],
        }
    )
    if rows.empty:
        return plain(cells, "There is no second variant to compare with the reference.")
    shown = plain(
        cells,
        "AUROC in percent, mean over seeds; differences in percentage points, the variant minus "
        "the reference. Positive: the variant is better. Several categories: their mean.\n"
        "Test images: DeLong's paired test of the mean AUROC over seeds, on the same images. It "
        "holds the trained models fixed and asks about other test images. p (Holm) is corrected "
        "for all tests of the dataset.\n"
        "Seed by seed: mean ± sd of the difference, and Student's interval of the mean. It "
        "holds the test images fixed and asks about other trainings; where one side has no "
        "seeds, its value stands beside every seed. Intervals are cut at -100 and +100 points.\n"
        f"Bold: a claim about the methods, which needs both: p (Holm) below {LEVEL}, and the "
        "interval over seeds on one side of 0 (not where nothing is trained on either side). One "
        "seed of a trained method, and an ensemble of all its seeds, bear no claim.",
    )
    if "Difference" in shown.cells:
        shown.bold["Difference"] = rows["claim"]
    return shown


def p_text(value: float) -> str:
    """Format a p-value with two digits; below 0.001 it is "<0.001", NaN an empty cell."""
    if pd.isna(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _ends(low: pd.Series, high: pd.Series) -> list[str]:
    """Return intervals of differences, `−1.2 to +0.3`: a dash would look like a minus."""
    pairs = zip(low, high, strict=True)
    return ["" if pd.isna(a) else f"{points(a)} to {points(b)}" for a, b in pairs]


def plot_variants(source: Source, dataset: str) -> Drawing:
    """Draw each variant's AUROC, its difference to the reference and, with masks, its AUPRO.

    The interval over test images is DeLong's of the mean AUROC over seeds: it belongs to the dot,
    also for several categories, where a bootstrap of one seed would belong to neither.
    """
    results, main, rows = (
        table[table["dataset"] == dataset]
        for table in map(source.table, ("results", "main", "comparison"))
    )
    title = f"Variants on {dataset}"
    rows, names = rows.reset_index(drop=True), list(rows["variant"])
    if len(rows) == 1:
        return nothing_to_draw(dataset, title, "There is no second variant to compare with.")
    if rows["auroc"].isna().all():
        why = " ".join(rows["reason"].mode()[:1]) or "No variant has a score."
        return nothing_to_draw(dataset, title, f"No AUROC. {why}")
    means = main.set_index("variant").loc[names].reset_index()
    by_seed = results[results["variant"].isin(names)].groupby(["variant", "seed"], sort=False)
    seeds = by_seed[["image_auroc", "aupro"]].mean(skipna=False).reset_index()
    pixels = bool(means["aupro_mean"].notna().any())
    n_panels = 3 if pixels else 2
    size = (TWO_COLUMNS, ROW * len(rows) + 1.0)
    figure, panels = row_panels([*map(source.study.label, names)], n_panels, size)
    _draw_means(panels[0], means, seeds, "image_auroc", (rows["auroc_low"], rows["auroc_high"]))
    panels[0].set(xlabel="Image AUROC (%)")
    trivial = main.loc[main["method"] == Method.GRADIENT, "image_auroc_mean"]
    for value in trivial:
        panels[0].axvline(100 * value, color=GRAY, linewidth=1, linestyle=":", zorder=0.9)
    _draw_differences(panels[1], rows)
    if pixels:
        _draw_means(panels[2], means, seeds, "aupro")
        panels[2].set(xlabel="AUPRO (%)")
    figure.legend(
        handles=_legend(len(trivial) > 0),
        loc="outside lower center",
        ncols=6 if len(trivial) == 0 else 3,
    )
    reference = source.study.label(source.study.reference)
    text = (
        "Dots: mean over seeds, categories averaged; ticks: single seeds. Thin dark bar: "
        "Student's 95 % interval over seeds, the test images fixed. Wide light bar: DeLong's 95 % "
        "interval over test images, the trained models fixed. A bar that reaches the edge of its "
        "panel goes on there; all are cut at what is possible. Differences are to "
        f"{reference}; a filled dot is a claim: p < {LEVEL} (DeLong, after Holm's "
        "correction), and the interval over seeds on one side of 0 where anything is trained. An "
        f"arrow with a number is a difference of more than {100 * _FAR:.0f} points, filled "
        "likewise."
    )
    return Drawing(figure, Caption(dataset, title, text))


def _draw_means(
    axes: Axes,
    means: pd.DataFrame,
    seeds: pd.DataFrame,
    metric: str,
    images: Sequence[pd.Series] = (),
) -> None:
    """Draw mean, seeds, interval over seeds and, where given, over test images."""
    place = {name: row for row, name in enumerate(means["variant"])}
    if images:
        bars(axes, *images, wide=True)
    bars(axes, means[f"{metric}_low"], means[f"{metric}_high"])
    ticks: dict[str, Any] = {"color": "black", "markersize": 6, "zorder": 3}
    axes.plot(100 * seeds[metric], seeds["variant"].map(place), "|", **ticks)
    dots: dict[str, Any] = {"color": DARK, "markeredgecolor": "white", "zorder": 4}
    axes.plot(100 * means[f"{metric}_mean"], means.index, "o", **dots)
    keep_whole(axes, [seeds[metric], *images])


def _draw_differences(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the differences to the reference, in percentage points.

    A variant that is far off, as the autoencoder may be, would squeeze all others: its difference
    is written at the edge, beside an arrow.
    """
    far = rows["difference"].abs() > _FAR
    if not (rows["difference"].abs() <= _FAR).any():
        far[:] = False
    for place in map(int, np.flatnonzero(far)):
        difference, claim = rows["difference"][place], rows["claim"][place]
        left, arrows = difference < 0, "◀▶" if claim else "◁▷"
        text = f"{arrows[0]} {points(difference)}" if left else f"{points(difference)} {arrows[1]}"
        edge: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
        edge["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # the line at 0 stops
        look: dict[str, Any] = {
            "ha": "left" if left else "right",
            "color": DARK,
            "fontsize": "small",
        }
        axes.text(0.02 if left else 0.98, place, text, **edge, **look)
    rows = rows.assign(**rows[_ENDS].mask(far))
    axes.axvline(0, color="black", linewidth=0.8, zorder=0.9)
    bars(axes, rows["low"], rows["high"], wide=True)
    bars(axes, rows["seed_low"], rows["seed_high"])
    for place, row in enumerate(rows.to_dict("records")):
        fill = DARK if row["claim"] else "white"
        options: dict[str, Any] = {"markeredgecolor": DARK, "markerfacecolor": fill, "zorder": 4}
        axes.plot(100 * row["difference"], place, "o", **options)
    axes.set(xlabel="Difference of AUROC (points)")
    keep_whole(axes, [rows["low"], rows["high"], rows["difference"], pd.Series([0.0])], -100.0)
    left, right = axes.get_xlim()
    edge = {"va": "center", "ha": "left" if right > -left else "right"}  # where there is space
    for place in map(int, np.flatnonzero(rows["variant"] == rows["reference"])):
        axes.text(0, place, "  reference  ", fontsize="small", color=GRAY, **edge)


def _legend(trivial: bool) -> list[Line2D]:
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"marker": "o", "linestyle": ""}
    lines = [
        Line2D([], [], **dot, markerfacecolor=DARK, markeredgecolor="white"),
        Line2D([], [], marker="|", linestyle="", color="black", markersize=6),
        Line2D([], [], color=DARK, linewidth=1.0),
        Line2D([], [], color=LIGHT, linewidth=4.5),
        Line2D([], [], color=GRAY, linewidth=1, linestyle=":"),
        Line2D([], [], **dot, markerfacecolor="white", markeredgecolor=DARK),
    ]
    labels = [
        *("mean over seeds", "one seed", "95 %, other seeds", "95 %, other test images"),
        *("trivial baseline", "no claim of a difference"),
    ]
    for line, label in zip(lines, labels, strict=True):
        line.set_label(label)
    return [line for line in lines if trivial or line.get_linestyle() != ":"]
