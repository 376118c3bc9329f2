"""The report's smaller tables."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aeflow.display.table import DisplayTable, intervals, number, percent, plain


def summary(main: pd.DataFrame) -> str:
    """Return one sentence on the size of the study."""
    seeds = sorted({int(count) for count in main["n_seeds"]})
    return (
        f"{_count(main['variant'].nunique(), 'variant')} on "
        f"{_count(main['dataset'].nunique(), 'dataset')}, "
        f"{' or '.join(map(str, seeds))} seed{'' if seeds == [1] else 's'} each."
    )


def dataset_tables(
    results: pd.DataFrame, metrics: Sequence[dict[str, Any]]
) -> list[tuple[str, DisplayTable]]:
    """Return (heading, table) pairs about one dataset.

    Args:
        results: Its rows of the results table.
        metrics: Contents of its metrics files; none where jobs failed.
    """
    if not metrics:
        return [("Runs and thresholds", _runs(results))]
    tables = [("Images", _images(metrics))]
    for images, key in (("validation", "val_auroc"), ("test", "test_auroc")):
        components = [
            {"Component": name} | _value(run, content[key])
            for run in metrics
            for name, content in run["components"].items()
        ]
        table = _pivot(pd.DataFrame(components))
        if len(table.cells.columns) > 1:
            tables.append((f"AUROC of each score component on the {images} images", table))
    return [*tables, ("Runs and thresholds", _runs(results))]


def _value(run: dict[str, Any], auroc: float | None) -> dict[str, Any]:
    return {"variant": run["variant"], "seed": run["seed"], "image_auroc": auroc}


def _images(metrics: Sequence[dict[str, Any]]) -> DisplayTable:
    columns = {
        "n_train": "Train, normal",
        "n_val_normal": "Validation, normal",
        "n_val_anomalous": "Validation, anomalous",
        "n_test_normal": "Test, normal",
        "n_test_anomalous": "Test, anomalous",
    }
    categories: dict[str, dict[str, str]] = {}  # all runs of a category have the same images
    for run in metrics:
        counts = {label: str(run[key]) for key, label in columns.items()}
        categories[run["category"]] = {"Category": run["category"]} | counts
    return plain(pd.DataFrame(list(categories.values())))


def _pivot(rows: pd.DataFrame) -> DisplayTable:
    """One row per component, one column per variant: mean ± sd over seeds of image_auroc.

    Several values of a seed are categories and are averaged first.
    """
    rows = rows.astype({"image_auroc": "float64"})
    cell = ["Component", "variant"]
    per_seed = rows.groupby([*cell, "seed"], sort=False)["image_auroc"].mean(skipna=False)
    groups = per_seed.groupby(cell, sort=False)
    order = rows["variant"].unique()
    mean = groups.mean(skipna=False).unstack("variant", sort=False)[order]  # noqa: PD010
    sd = groups.std(ddof=1, skipna=False).unstack("variant", sort=False)[order]  # noqa: PD010
    cells = mean.index.to_frame(index=False)
    for variant in order:
        cells[variant] = list(map(percent, mean[variant], sd[variant]))
    return plain(cells.astype(str), "Percent, mean ± sd over seeds.")


def _runs(results: pd.DataFrame) -> DisplayTable:
    cells = pd.DataFrame(
        {
            "Category": results["category"],
            "Variant": results["variant"],
            "Seed": results["seed"].astype(str),
            "Threshold": results["threshold"].map(number),
            "Rule": results["threshold_rule"].fillna(""),
            "Validation AUROC": results["val_auroc"].map(percent),
            "Test AUROC": results["image_auroc"].map(percent),
            "Interval": intervals(results),
            "Kept epoch": results["best_epoch"].astype("str").fillna("").replace("<NA>", ""),
            "Fit (s)": [number(value, 1) for value in results["fit_seconds"]],
        }
    )
    return plain(
        cells,
        "Thresholds are fitted on validation images; an image at the threshold counts as "
        "anomalous. Percent; interval: bootstrap over the test images.",
    )


def reasons(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """Return why cells of a dataset are empty: one line per sentence, with its metrics."""
    metric_names: dict[str, dict[str, None]] = {}
    variants: dict[str, dict[str, None]] = {}
    for run in metrics:
        for metric, sentence in run["reasons"].items():
            metric_names.setdefault(sentence, {})[metric] = None
            variants.setdefault(sentence, {})[run["variant"]] = None
    everyone = {run["variant"] for run in metrics}
    return [
        f"{', '.join(names)}"
        + ("" if set(variants[sentence]) == everyone else f" ({', '.join(variants[sentence])})")
        + f": {sentence}"
        for sentence, names in metric_names.items()
    ]


def cost(main: pd.DataFrame) -> DisplayTable:
    """Return training time and memory per model."""
    cells = main[["dataset", "variant"]].copy()
    cells.columns = pd.Index(["Dataset", "Variant"])
    for name, label in (("fit_seconds", "Seconds per model"), ("peak_rss_mib", "Memory (MiB)")):
        cells[label] = [
            number(mean, 1) + (f" ± {number(sd, 1)}" if not np.isnan(sd) else "")
            for mean, sd in zip(main[f"{name}_mean"], main[f"{name}_sd"], strict=True)
        ]
    return plain(
        cells[cells["Memory (MiB)"] != ""],
        "Mean ± sd over seeds; wall time, and the largest resident set of the training's process "
        "(mapped files included). A fusion's are its members': the sum, and the largest.",
    )


def settings(
    trainings: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]]
) -> DisplayTable:
    """Return every setting, and where it has several values, which variants or datasets have it.

    A setting of the metrics counts where the training was made under another: changing beta, say,
    trains nothing again.
    """
    values: dict[str, dict[tuple[str, str], str]] = {}
    for run in [*trainings, *metrics]:
        for key, value in _flat(run["settings"]):
            shown = value if isinstance(value, str) else json.dumps(value)  # as in the config
            values.setdefault(key, {})[run["dataset"], run["variant"]] = shown
    rows = [{"Setting": key, "Value": _choices(cells)} for key, cells in values.items()]
    return plain(pd.DataFrame(rows, columns=["Setting", "Value"]))


def _choices(values: dict[tuple[str, str], str]) -> str:
    """Return the one value, or each value with the variants or datasets that have it."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    ways = [
        {(dataset, variant): variant for dataset, variant in values},
        {(dataset, variant): dataset for dataset, variant in values},
        {(dataset, variant): f"{dataset}/{variant}" for dataset, variant in values},
    ]
    for way in ways:
        found = {(value, way[cell]): None for cell, value in values.items()}
        if len(found) == len(set(way.values())):  # each name has one value
            break
    names: dict[str, list[str]] = {}
    for value, name in found:
        names.setdefault(value, []).append(name)
    return "; ".join(f"{value} ({', '.join(own)})" for value, own in names.items())


def software(trainings: Sequence[dict[str, Any]]) -> DisplayTable:
    """Return the devices and package versions of all trainings."""
    found: dict[str, dict[str, None]] = {}
    for training in trainings:
        found.setdefault("device", {})[str(training["device"])] = None
        for package, version in training["versions"].items():
            found.setdefault(package, {})[str(version)] = None
    rows = [{"What": what, "Version": ", ".join(versions)} for what, versions in found.items()]
    return plain(pd.DataFrame(rows, columns=["What", "Version"]))


def _flat(content: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
