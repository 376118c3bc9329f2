"""Is the ensemble certain when it is right? The tables, for machines and for people.

Metrics and areas are means over a dataset's categories. Counts are summed over them, and the error
rates are those of the summed counts: categories have different images, so no image counts twice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeflow.display.table import DisplayTable, best, interval, number, percent, plain
from aeflow.questions.results import read_table
from aeflow.study.entries import DatasetEntry

_MEANS = ["image_auroc", "member_auroc_mean", "f1", "aurc", "aurc_optimal", "aurc_excess"]
_COUNTS = ["right_certain", "wrong_certain", "right_uncertain", "wrong_uncertain"]
ENSEMBLE_COLUMNS = [
    *["dataset", "variant", "n_members", "n_categories", "n_test"],
    *["image_auroc", "member_auroc_mean", "member_auroc_lowest", "member_auroc_highest", "f1"],
    *["error_rate", *_COUNTS, "error_rate_certain", "error_rate_uncertain"],
    *["aurc", "aurc_optimal", "aurc_excess", "reason"],
]
RISK_COLUMNS = ["dataset", "category", "variant", "coverage", "risk"]
_CURVE_POINTS = 100  # the file of 15 categories and several variants stays below a megabyte
# The published counts, read in the order in which PA's code writes them.
_PA_NOTE = (
    "PA's ensemble of three on chest X-ray, raw scores averaged, a limit of certainty chosen by "
    "hand: right and certain 198, right and uncertain 192, wrong and certain 90, wrong and "
    "uncertain 144 of 624: 31.2 % errors among the certain, 42.9 % among the uncertain, 37.5 % "
    "in all. Its 390 right and 234 wrong images are as many as the test has anomalous and normal "
    "ones, as if every image had been called anomalous."
)


def ensembles_table(evaluated: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per dataset and variant.

    Args:
        evaluated: Output of `evaluate_ensemble` per dataset, category and variant, with these
            three added.

    Returns:
        `ENSEMBLE_COLUMNS`. What one category lacks is NaN, and `reason` says why.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for found in evaluated:
        groups.setdefault((found["dataset"], found["variant"]), []).append(found)
    rows = [_row(*key, parts) for key, parts in groups.items()]
    return pd.DataFrame(rows, columns=ENSEMBLE_COLUMNS).astype(dict.fromkeys(_COUNTS, "Int64"))


def _row(dataset: str, variant: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the table's row of one ensemble, from its categories."""
    table = pd.DataFrame(parts)
    row: dict[str, Any] = {"dataset": dataset, "variant": variant}
    row |= {"n_members": parts[0]["n_members"], "n_categories": len(parts)}
    row["n_test"] = int(table["n_test"].sum())
    row |= dict(zip(_MEANS, table[_MEANS].astype(float).mean(skipna=False), strict=True))
    row |= dict(zip(_COUNTS, table[_COUNTS].astype(float).sum(skipna=False), strict=True))
    if all(part["member_auroc"] for part in parts):
        members = np.mean([part["member_auroc"] for part in parts], axis=0)
        row |= {"member_auroc_lowest": members.min(), "member_auroc_highest": members.max()}
    wrong = {name: row[f"wrong_{name}"] for name in ("certain", "uncertain")}
    images = {name: count + row[f"right_{name}"] for name, count in wrong.items()}
    row["error_rate"] = sum(wrong.values()) / row["n_test"] if row["n_test"] else np.nan
    reasons = {sentence for part in parts for sentence in part["reasons"].values()}
    for name, count in images.items():
        row[f"error_rate_{name}"] = wrong[name] / count if count else np.nan
        if count:  # one category without such images does not matter
            reasons.discard(f"No test image is {name}.")
    return row | {"reason": " ".join(sorted(reasons))}


def risk_table(evaluated: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the risk-coverage curves, at most 100 points each, the last of them all images.

    Args:
        evaluated: as `ensembles_table`.

    Returns:
        `RISK_COLUMNS`: risk is the share of errors among the most certain images, coverage the
        share of images that these are.
    """
    curves = []
    for found in evaluated:
        risk = np.array(found["risk"])
        kept = np.unique(np.linspace(0, len(risk) - 1, _CURVE_POINTS).round().astype(int))
        if len(risk):
            curve = pd.DataFrame({"coverage": (kept + 1) / len(risk), "risk": risk[kept]})
            curves.append(curve.assign(**{name: found[name] for name in RISK_COLUMNS[:3]}))
    empty = pd.DataFrame(columns=RISK_COLUMNS)
    return pd.concat(curves, ignore_index=True)[RISK_COLUMNS] if curves else empty


def read_ensembles(path: Path) -> pd.DataFrame:
    """Read `ensembles.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    names = ["dataset", "variant", "reason"]
    return read_table(path, ENSEMBLE_COLUMNS, text=names, rule="evaluate_ensembles")


def read_risk(path: Path) -> pd.DataFrame:
    """Read `risk.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(path, RISK_COLUMNS, text=RISK_COLUMNS[:3], rule="evaluate_ensembles")


def ensembles_display(table: pd.DataFrame, entries: Sequence[DatasetEntry]) -> DisplayTable:
    """Return `ensembles_table` for people.

    Args:
        table: Output of `ensembles_table`.
        entries: the study's datasets; PA's numbers stand below those of chest X-ray.
    """
    cells = pd.DataFrame({"Dataset": table["dataset"], "Variant": table["variant"]})
    if table.empty:
        return plain(
            cells, "The study has no ensemble: one needs a variant with two seeds or more."
        )
    cells["Members"] = table["n_members"].astype(str)
    cells["AUROC"] = [percent(value) for value in table["image_auroc"]]
    cells["Members, mean"] = [percent(value) for value in table["member_auroc_mean"]]
    ends = zip(table["member_auroc_lowest"], table["member_auroc_highest"], strict=True)
    cells["Members, lowest to highest"] = [interval(low, high) for low, high in ends]
    cells["F1"] = [percent(value) for value in table["f1"]]
    for name in _COUNTS:
        cells[name.replace("_", ", ").capitalize()] = [number(count, 0) for count in table[name]]
    for label, name in (
        ("Errors of all", "error_rate"),
        ("Errors of the certain", "error_rate_certain"),
        ("Errors of the uncertain", "error_rate_uncertain"),
        ("AURC", "aurc"),
        ("AURC at best", "aurc_optimal"),
        ("AURC excess", "aurc_excess"),
    ):
        cells[label] = [percent(value) for value in table[name]]
    cells["Why empty"] = table["reason"].fillna("")
    compared = {entry.name for entry in entries if entry.card_name == "chest_xray"}
    display = plain(cells, _note(table, bool(compared & set(table["dataset"]))))
    if "AUROC" in display.cells:
        display.bold["AUROC"] = best(table, ["image_auroc"], table["dataset"])["image_auroc"]
    return display


def _note(table: pd.DataFrame, compared: bool) -> str:
    averaged = table[table["n_categories"] > 1].drop_duplicates("dataset")
    categories = zip(averaged["dataset"], averaged["n_categories"], strict=True)
    note = (
        "Percent but for the counts of test images. Members are the seeds of a variant, each "
        "standardised over its validation normals; score and uncertainty are their mean and sd. "
        "Right and wrong: at the threshold fitted on validation images. Certain: uncertainty at "
        "most the median of the validation images. AURC: area under the risk-coverage curve, the "
        "mean error rate of the k most certain images; at best: were every error less certain "
        "than every right image. Bold: best of a dataset."
    )
    note += "".join(
        f" {name}: mean over {count} categories; counts are summed, and errors theirs."
        for name, count in categories
    )
    return note + ("\n" + _PA_NOTE if compared else "")
