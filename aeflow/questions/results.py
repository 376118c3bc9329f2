"""Tables as data: one row per run, and mean and sd over seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.files import read_json, write_text
from aeflow.judging.over_seeds import over_seeds

RUN = ["dataset", "category", "variant", "seed"]
# Shares in [0, 1], higher is better. The human tables show them in percent.
METRICS = [
    "image_auroc",
    "image_aupr",
    "f1",
    "accuracy",
    "sensitivity",
    "specificity",
    "oracle_f1",
    "pixel_auroc",
    "aupro",
]
_NAMES = ["dataset", "category", "variant", "method", "encoder", "threshold_rule"]
_COUNTS = ["n_train", "n_test_normal", "n_test_anomalous"]
_FROM_METRICS = [
    *["dataset", "category", "variant", "method", "encoder", "seed"],
    *["image_auroc", "image_aupr", "f1", "accuracy", "sensitivity", "specificity", "threshold"],
    *["oracle_f1", "pixel_auroc", "aupro", *_COUNTS, "fit_seconds"],
    *["val_auroc", "threshold_rule", "oracle_threshold", "best_epoch", "peak_rss_mib"],
]
RESULT_COLUMNS = [*_FROM_METRICS, "image_auroc_low", "image_auroc_high"]


def results_table(metrics: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per run (dataset, category, variant, seed), in the order given.

    Args:
        metrics: Contents of the metrics files; any metric may be None.

    Returns:
        `RESULT_COLUMNS`; a missing value is NaN or NA and becomes an empty cell.

    Raises:
        DataError: a file lacks a key, or two files describe the same run.
    """
    rows = []
    for run in metrics:
        missing = [key for key in [*_FROM_METRICS, "intervals"] if key not in run]
        if missing:
            raise DataError(
                f"The metrics of {_name(run)} lack {', '.join(missing)}: "
                "delete the file and run evaluate_scores again."
            )
        low, high = run["intervals"].get("image_auroc") or (None, None)
        row = {key: run[key] for key in _FROM_METRICS}
        rows.append(row | {"image_auroc_low": low, "image_auroc_high": high})
    table = _typed(pd.DataFrame(rows, columns=RESULT_COLUMNS))
    twice = table[table.duplicated(RUN)]
    if len(twice):
        raise DataError(f"Two metrics files describe {_name(twice.iloc[0])}: give each run once.")
    return table


def main_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return mean and sd over seeds, one row per dataset and variant.

    Categories are averaged first, within each seed. A value that one category or one seed lacks
    leaves the cell empty: a mean over the others would be a mean of something else. The sd is
    the sample's (n - 1), empty for a single seed.

    Args:
        results: Output of `results_table`.

    Returns:
        dataset, variant, method, encoder, n_seeds, n_categories, threshold_rule, then
        `<metric>_mean`, `_sd`, `_low` and `_high` (`over_seeds`) of every metric, val_auroc,
        fit_seconds and peak_rss_mib.

    Raises:
        DataError: a seed of a variant lacks a category that another seed has.
    """
    cell = ["dataset", "variant"]
    groups = results.groupby(cell, sort=False)
    table = groups.agg(
        method=("method", "first"),
        encoder=("encoder", "first"),
        n_seeds=("seed", "nunique"),
        n_categories=("category", "nunique"),
        runs=("seed", "size"),
    )
    table["threshold_rule"] = groups["threshold_rule"].agg(
        lambda rules: ", ".join(sorted(rules.dropna().unique()))
    )
    incomplete = table[table["runs"] != table["n_seeds"] * table["n_categories"]]
    if len(incomplete):
        dataset, variant = incomplete.index[0]
        raise DataError(
            f"Some seeds of {dataset}/{variant} lack a category: "
            "give the metrics of every category for every seed."
        )
    columns = [*METRICS, "val_auroc", "fit_seconds", "peak_rss_mib"]
    per_seed = results.groupby([*cell, "seed"], sort=False)[columns].mean(skipna=False)
    summary = over_seeds(per_seed.reset_index(), cell, columns).set_index(cell)
    return table.drop(columns="runs").join(summary.drop(columns="n_seeds")).reset_index()


def headline(means: pd.DataFrame) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return {dataset: {variant: {metric: mean}}} of `main_table`'s rows; None if it is empty."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in means.to_dict("records"):
        values = {name: row[f"{name}_mean"] for name in METRICS}
        found.setdefault(row["dataset"], {})[row["variant"]] = {
            name: None if pd.isna(value) else float(value) for name, value in values.items()
        }
    return found


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV; numbers keep every digit."""
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV."""
    write_text(path, csv_text(table))


def read_results(path: Path) -> pd.DataFrame:
    """Read `results.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return _typed(_read(path, _NAMES, "aggregate_metrics", RESULT_COLUMNS))


def read_main(path: Path) -> pd.DataFrame:
    """Read `main.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    table = _read(path, _NAMES, "aggregate_metrics")
    if not {"dataset", "variant", "n_seeds", f"{METRICS[-1]}_sd"} <= set(table.columns):
        raise DataError(f"{path} has other columns than main.csv: run aggregate_metrics again.")
    return table


def read_training(path: Path) -> dict[str, Any]:
    """Read a train JSON and add dataset, category and variant, which its path alone tells.

    Args:
        path: `.../<dataset>/<category>/<variant>/seed<k>.json`.
    """
    dataset, category, variant = path.absolute().parts[-4:-1]
    run = {"dataset": dataset, "category": category, "variant": variant}
    return run | dict(read_json(path))


def read_table(
    path: Path,
    columns: Sequence[str],
    *,
    text: Sequence[str],
    rule: str,
    flags: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a table that `write_table` wrote; an empty number is NaN.

    Args:
        path: the CSV.
        columns: all of its columns, in their order.
        text: those of names and sentences, an empty one is ""; a category called 01 stays 01.
        rule: the rule that makes the table.
        flags: columns of True and False.

    Raises:
        DataError: the file is missing or has other columns.
    """
    table = _read(path, text, rule, columns)
    table[[*text]] = table[[*text]].fillna("")
    return table.astype(dict.fromkeys(text, "str") | dict.fromkeys(flags, "bool"))


def _read(
    path: Path, text: Sequence[str], rule: str, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""]
        )
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run {rule} first.") from error
    if columns is not None and list(table.columns) != list(columns):
        raise DataError(f"{path} has other columns than expected: run {rule} again.")
    return table


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Give columns one type each, also where every value is missing."""
    whole = ["seed", *_COUNTS, "best_epoch"]
    kinds = {column: "float64" for column in table.columns if column not in _NAMES}
    kinds |= dict.fromkeys(whole, "Int64") | dict.fromkeys(_NAMES, "str")
    return table.astype(kinds)


def _name(run: Any) -> str:
    return "/".join(str(run.get(key, "?")) for key in RUN[:-1]) + f"/seed{run.get('seed', '?')}"
