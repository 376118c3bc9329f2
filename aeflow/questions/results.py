"""What came out: one row per run, means over seeds, per category and per defect."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from aeflow.display.dots import keep_possible, row_panels, spread
from aeflow.display.figure import (
    EMPHASIS,
    ONE_COLUMN,
    TWO_COLUMNS,
    Caption,
    Drawing,
    legend_below,
    nothing_to_draw,
)
from aeflow.display.table import (
    LABELS,
    METRICS,
    DisplayTable,
    best,
    by_variant,
    intervals,
    number,
    percent,
    percents,
    plain,
)
from aeflow.questions.source import Source, looks_on, means

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RESULTS = [
    *("dataset", "category", "variant", "method", "encoder", "seed"),
    *("image_auroc", "image_aupr", "f1", "accuracy", "sensitivity", "specificity", "threshold"),
    *("oracle_f1", "pixel_auroc", "aupro", "n_train", "n_test_normal", "n_test_anomalous"),
    *("fit_seconds", "val_auroc", "threshold_rule", "oracle_threshold", "best_epoch"),
    *("peak_rss_mib", "image_auroc_low", "image_auroc_high"),
]
_TEST = ["n_test_normal", "n_test_anomalous"]
_PER_CATEGORY = ["image_auroc", "pixel_auroc", "aupro", "f1"]
_PER_DEFECT = ["dataset", "category", "defect", "n", "variant"]
MEAN = "mean"  # in the place of a category's name
_ORACLE = "F1 (oracle) uses the best threshold for the test labels, which no detector knows."


def results_table(source: Source) -> pd.DataFrame:
    """Return one row per run, shares in [0, 1], seconds and MiB; what is missing is empty.

    Of an incomplete study, the rows without a result have a `reason`.
    """
    rows = []
    for run in source.runs():
        low, high = run["intervals"].get("image_auroc") or (None, None)
        rows.append(run | {"image_auroc_low": low, "image_auroc_high": high})
    return pd.DataFrame(rows, columns=_RESULTS + ["reason"] * bool(source.missing))


def main_table(source: Source) -> pd.DataFrame:
    """Return mean and sd over seeds, one row per dataset and variant, categories averaged.

    Returns:
        dataset, variant, method, encoder, n_seeds, n_categories, n_test_normal and
        n_test_anomalous (of all categories), threshold_rule, then `<metric>_mean`, `_sd`, `_low`
        and `_high` (`means`) of every metric, val_auroc, fit_seconds and peak_rss_mib.
    """
    results = source.table("results")
    cell = ["dataset", "variant"]
    groups = results.groupby(cell, sort=False)
    table = groups[["method", "encoder"]].first()
    table["n_seeds"] = groups["seed"].nunique()
    table["n_categories"] = groups["category"].nunique()
    images = results.drop_duplicates([*cell, "category"]).groupby(cell, sort=False)[_TEST]
    table[_TEST] = images.sum(min_count=1)
    table["threshold_rule"] = groups["threshold_rule"].agg(
        lambda rules: ", ".join(sorted(set(rules) - {""}))
    )
    found = means(results, cell, [*METRICS, "val_auroc", "fit_seconds", "peak_rss_mib"])
    return table.join(found.drop(columns="n_seeds").set_index(cell)).reset_index()


def categories_table(source: Source) -> pd.DataFrame:
    """Return mean and sd over seeds per category and variant, then of the mean over categories.

    Returns:
        A row per dataset with several categories, category and named variant; the rows of a
        dataset end with those of the category `mean`.
    """
    results = source.table("results")
    several = results.groupby("dataset")["category"].transform("nunique") > 1
    named = results[several & results["variant"].isin(source.study.named)]
    parts = [
        part
        for _, own in named.groupby("dataset", sort=False)
        for part in (own, own.assign(category=MEAN))
    ]
    by = ["dataset", "category", "variant"]
    found = means(pd.concat(parts) if parts else named, by, _PER_CATEGORY)
    kept = [f"{metric}_{kind}" for metric in _PER_CATEGORY for kind in ("mean", "sd")]
    return found[[*by, "n_seeds", *kept]]


def defects_table(source: Source) -> pd.DataFrame:
    """Return mean, sd and interval over seeds of the AUROC of every defect.

    Returns:
        A row per dataset, category, defect and variant; n is the number of test images with the
        defect, which are judged against all normal test images of the category.
    """
    rows = [
        run | defect | {"defect": name, "reason": run["reasons"].get("image_auroc", "")}
        for run in source.runs()
        for name, defect in run["per_defect"].items()
    ]
    table = pd.DataFrame(rows, columns=[*_PER_DEFECT, "seed", "image_auroc", "reason"])
    reasons = table.groupby(_PER_DEFECT, sort=False)["reason"].first()
    table["image_auroc"] = table["image_auroc"].astype("float64")
    return means(table, _PER_DEFECT, ["image_auroc"]).join(reasons, on=_PER_DEFECT)


def results_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return every run for people."""
    cells = table[["dataset", "category", "variant"]].copy()
    cells.columns = pd.Index(["Dataset", "Category", "Variant"])
    cells["Seed"] = table["seed"].astype("str")
    cells["Validation AUROC"] = table["val_auroc"].map(percent)
    for metric, label in LABELS.items():
        cells[label] = table[metric].map(percent)
        if metric == "image_auroc":
            cells["AUROC interval"] = intervals(table, metric)
    cells["Threshold"] = table["threshold"].map(number)
    cells["Rule"] = table["threshold_rule"]
    cells["Kept epoch"] = table["best_epoch"].map(number)
    cells["Fit (s)"] = [number(value, 1) for value in table["fit_seconds"]]
    if "reason" in table:
        cells["Reason"] = table["reason"]
    return plain(
        cells,
        "Percent. F1, ACC, SEN and SPE at the threshold shown, fitted on validation images by the "
        "rule named; an image at the threshold counts as anomalous. "
        f"{_ORACLE} Interval: bootstrap over the test images; none where every draw has the same "
        "value.",
        long=True,
    )


def main_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return the named variants for people: a row per dataset and variant."""
    main = table[table["variant"].isin(source.study.named)].reset_index(drop=True)
    cells = pd.DataFrame({"Dataset": main["dataset"], "Variant": main["variant"]})
    for metric, label in LABELS.items():
        cells[label] = percents(main, metric)
    cells["Threshold"] = main["threshold_rule"]
    cells["Seeds"] = main["n_seeds"].astype("str")
    cells["Why empty"] = [_without_test(row) for row in main.to_dict("records")]
    averaged = main[main["n_categories"] > 1].drop_duplicates("dataset")
    notes = [
        "Percent, mean ± sd over seeds.",
        *(
            f"{name}: mean over {count} categories."
            for name, count in zip(averaged["dataset"], averaged["n_categories"], strict=True)
        ),
        "F1, ACC, SEN and SPE use a threshold fitted on validation images by the rule named.",
        f"{_ORACLE} Bold: highest of a dataset, the oracle aside; whether a difference to the "
        "reference is more than chance, the table comparison says.",
    ]
    judged = [metric for metric in METRICS if metric != "oracle_f1"]
    return _marked(plain(cells, " ".join(notes)), main, judged, main["dataset"])


def _without_test(row: Mapping[Hashable, Any]) -> str:
    """Return why a row of the main table has no metric, where the test is why."""
    normal, anomalous = (row[name] == 0 for name in _TEST)
    if pd.notna(row["image_auroc_mean"]) or not (normal or anomalous):
        return ""
    return (
        "no test images"
        if normal and anomalous
        else (f"no {'normal' if normal else 'anomalous'} test images")
    )


def categories_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return the categories for people."""
    cells = table[["dataset", "category", "variant"]].copy()
    cells.columns = pd.Index(["Dataset", "Category", "Variant"])
    for metric in _PER_CATEGORY:
        cells[LABELS[metric]] = percents(table, metric)
    cells["Seeds"] = table["n_seeds"].map(number)
    if table.empty:
        return plain(cells, "No dataset of this study has several categories.")
    note = (
        f"Percent, mean ± sd over seeds; {MEAN}: categories are averaged within a seed first. F1 "
        "at the threshold fitted on validation images. Bold: highest of a category; no test says "
        "that it is better."
    )
    groups = table["dataset"] + "/" + table["category"]
    return _marked(plain(cells, note), table, _PER_CATEGORY, groups)


def _marked(
    shown: DisplayTable, table: pd.DataFrame, metrics: list[str], groups: pd.Series
) -> DisplayTable:
    """Print the best of each group in bold, in the columns that have content."""
    kept = [metric for metric in metrics if LABELS[metric] in shown.cells]
    marks = best(table, [f"{metric}_mean" for metric in kept], groups)
    shown.bold[[LABELS[metric] for metric in kept]] = marks.to_numpy()
    return shown


def defects_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return the AUROC per defect for people: a row per defect, a column per variant."""
    heads = dict(zip(_PER_DEFECT[:4], ["Dataset", "Category", "Defect", "Images"], strict=True))
    cells, values = by_variant(table, heads, "image_auroc", source.study.labels)
    if table.empty:
        return plain(cells, "No test image of this study is anomalous.", long=True)
    if not cells.duplicated(["Dataset", "Category"]).any():
        return plain(cells[:0], "There is one kind of defect only: see the main table.", long=True)
    shown = plain(
        cells,
        "AUROC in percent of the images with one defect against all normal test images of the "
        "category, mean ± sd over seeds. Bold: highest of a row; no test says that it is better.",
        long=True,
    )
    values = values[[variant for variant in values if variant in shown.cells]]
    if values.shape[1] > 1:
        rounded = (100 * values).round(1)
        shown.bold[values.columns] = rounded.eq(rounded.max(axis=1), axis=0)
    return shown


def plot_categories(source: Source, dataset: str) -> Drawing:
    """Draw every variant on every category, sorted by the reference's AUROC."""
    table, reference = source.table("categories"), source.study.reference
    rows = table[table["dataset"] == dataset]
    order = rows[rows["variant"] == reference].sort_values(
        "image_auroc_mean", ascending=False, kind="stable"
    )["category"]
    names = list(dict.fromkeys([*order, *rows["category"]]))
    names = [name for name in names if name != MEAN] + [MEAN]
    place = {name: index for index, name in enumerate(names)}
    variants = list(rows["variant"].unique())
    metrics = ["image_auroc", "pixel_auroc", "aupro"]
    shown = [name for name in metrics if rows[f"{name}_mean"].notna().any()] or metrics[:1]
    size = (TWO_COLUMNS if len(shown) > 1 else ONE_COLUMN, _height(names, variants))
    figure, panels = row_panels([*names[:-1], "mean of all"], len(shown), size)
    for axes, metric in zip(panels, shown, strict=True):
        axes.axhline(len(names) - 1.5, color="0.6", linewidth=0.8)
        _draw_variants(source, dataset, axes, rows, rows["category"].map(place), metric)
        axes.set(xlabel=f"{'Image ' if metric == 'image_auroc' else ''}{LABELS[metric]} (%)")
        keep_possible(axes, "x")
    legend_below(figure, 5 if len(shown) > 1 else 2)
    text = (
        "Marks: mean over seeds; bars: ± sd over seeds, none for one seed. Categories are sorted "
        f"by the AUROC of {source.study.label(reference)}; the last row averages them within each "
        f"seed first. {EMPHASIS}"
    )
    return Drawing(figure, Caption(dataset, f"Categories of {dataset}", text))


def _height(names: Sequence[str], variants: Sequence[str]) -> float:
    """Return the inches of a figure with a mark per variant in each named row."""
    return (0.06 * min(len(variants), 6) + 0.12) * len(names) + 0.9


def _draw_variants(
    source: Source,
    dataset: str,
    axes: Axes,
    rows: pd.DataFrame,
    places: pd.Series,
    metric: str = "image_auroc",
) -> None:
    """Draw a mark per variant in each row, one above the other; those in gray share a place."""
    seen = looks_on(source.study, dataset)
    variants = list(rows["variant"].unique())
    coloured = [name for name in variants if seen[name].emphasised]
    lanes = {name: lane for lane, name in enumerate(coloured)}
    count = len(coloured) + (len(coloured) < len(variants))
    for variant in sorted(variants, key=lambda name: not seen[name].emphasised):
        own, look = rows[rows["variant"] == variant], seen[variant]
        shift = 0.7 * ((lanes.get(variant, count - 1) + 0.5) / count - 0.5)
        others = f"{len(variants) - len(coloured)} others"
        axes.errorbar(
            100 * own[f"{metric}_mean"],
            places[own.index] + shift,
            xerr=spread(own[f"{metric}_mean"], own[f"{metric}_sd"]) if look.emphasised else None,
            fmt=look.marker,
            color=look.colour,
            elinewidth=0.9,
            zorder=2 + look.emphasised,
            label=source.study.label(variant) if look.emphasised else others,
        )


def plot_defects(source: Source, dataset: str) -> Drawing:
    """Draw the AUROC of each defect, a colour per variant."""
    table = source.table("defects")
    rows = table[(table["dataset"] == dataset) & table["image_auroc_mean"].notna()]
    keys = ["category", "defect", "n"]
    found = rows[keys].drop_duplicates(ignore_index=True)
    variants = list(rows["variant"].unique())
    several = len(rows["category"].unique()) > 1
    names = [
        (f"{row['category']}, " if several else "") + f"{row['defect']} ({row['n']})"
        for row in found.to_dict("records")
    ]
    title = f"Defects of {dataset}"
    if len(names) < 2:
        known = "There is one defect only." if names else "There is no defect to judge."
        return nothing_to_draw(dataset, title, known)
    size = (ONE_COLUMN, _height(names, variants))
    figure, (axes,) = row_panels(names, 1, size)
    text = (
        "AUROC of the test images with one defect against all normal test images of the category; "
        "mean over seeds, bars: sd. In brackets: images with the defect. Dotted line: chance. "
        f"{EMPHASIS}"
    )
    places = rows[keys].merge(found.assign(place=found.index), on=keys)["place"]
    _draw_variants(source, dataset, axes, rows, places.set_axis(rows.index))
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color="0.85", linewidth=0.6, zorder=0)
    axes.axvline(50, color="0.4", linewidth=0.8, linestyle=":", zorder=1)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="AUROC (%)")
    keep_possible(axes, "x")
    legend_below(figure, 2)
    return Drawing(figure, Caption(dataset, title, text))
