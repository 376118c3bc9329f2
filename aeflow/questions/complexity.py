"""Why it fails: scores against image complexity, and scores without what that explains."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.types import SCORE_TABLE_COLUMNS, Split
from aeflow.display.table import DisplayTable, best, number, percent, plain
from aeflow.judging.evaluation import combined_score
from aeflow.judging.metrics import Array, image_auroc
from aeflow.judging.over_seeds import over_seeds
from aeflow.questions.results import RUN, read_table
from aeflow.scoring.complexity import MEASURES, complexity_corrected, complexity_correlations

COMBINED = "pred_score"  # in the column `component`: the variant's combined score
MEASURE_LABELS = dict(zip(MEASURES, ["PNG bits", "mean gradient"], strict=True))
_IMAGES = ("all", "normal", "anomalous")
_AUROCS = ["image_auroc", "corrected_auroc", "difference", "val_auroc", "corrected_val_auroc"]
CORRELATION_COLUMNS = [
    *["dataset", "variant", "component", "measure", "images", "n", "n_seeds"],
    *["spearman_mean", "spearman_sd", "reason"],
]
CORRECTED_COLUMNS = [
    *["dataset", "variant", "method", "n_seeds"],
    *[f"{name}_{part}" for name in _AUROCS for part in ("mean", "sd")],
    "reason",
]


def correlations_of_run(
    metrics: dict[str, Any], scores: pd.DataFrame, complexity: pd.DataFrame, *, parts: bool
) -> pd.DataFrame:
    """Return `complexity_correlations` of a run's combined score, and of its components.

    Args:
        metrics: the run's metrics.
        scores: its score table.
        complexity: of its images (`complexity_table`).
        parts: whether to add the components; variants with one training have the same.

    Raises:
        DataError: an image has no complexity, or a component is not finite.
    """
    table = scores if parts else scores[list(SCORE_TABLE_COLUMNS)]
    combined = table.assign(**{COMBINED: combined_score(scores, metrics)})
    found = complexity_correlations(combined, complexity)
    return found.assign(**{key: metrics[key] for key in RUN})


def correction_of_run(
    metrics: dict[str, Any], scores: pd.DataFrame, complexity: pd.DataFrame
) -> dict[str, Any]:
    """Return a run's AUROCs with and without the correction of its components for complexity.

    The correction is fitted to validation normals alone. Test labels serve the AUROC, and choose
    nothing.

    Returns:
        `RUN`, method, image_auroc, corrected_auroc, difference, val_auroc, corrected_val_auroc
        and reason; what cannot be computed is NaN.
    """
    row = {key: metrics[key] for key in [*RUN, "method"]} | dict.fromkeys(_AUROCS, np.nan)
    row |= {"reason": metrics["reasons"].get("image_auroc", "")}
    row |= _aurocs(scores, combined_score(scores, metrics), "")
    try:
        corrected = combined_score(complexity_corrected(scores, complexity), metrics)
    except DataError as error:
        return row | {"reason": str(error)}
    if np.ptp(corrected) == 0:
        reason = "The measures of complexity explain the whole score: nothing is left to rank by."
        return row | {"reason": reason}
    row |= _aurocs(scores, corrected, "corrected_")
    return row | {"difference": row["corrected_auroc"] - row["image_auroc"]}


def _aurocs(scores: pd.DataFrame, combined: Array, prefix: str) -> dict[str, float]:
    test = scores["split"].eq(Split.TEST).to_numpy()
    gt_label = scores["gt_label"].to_numpy(int)
    names = (f"{prefix}val_auroc", "corrected_auroc" if prefix else "image_auroc")
    found = {
        name: image_auroc(gt_label[rows], combined[rows])
        for name, rows in zip(names, (~test, test), strict=True)
    }
    return {name: np.nan if auroc is None else auroc for name, auroc in found.items()}


def correlations_table(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return mean and sd over seeds of `correlations_of_run`, categories averaged first.

    Returns:
        `CORRELATION_COLUMNS`; n counts the images of all categories. A category without a
        correlation leaves the mean empty.
    """
    by = ["dataset", "variant", "component", "measure", "images"]
    rows = pd.concat(runs, ignore_index=True)
    per_seed = rows.groupby([*by, "seed"], sort=False).agg(
        spearman=("spearman", lambda values: values.mean(skipna=False)),
        n=("n", "sum"),
        reason=("reason", _first),
    )
    return _over_seeds(per_seed.reset_index(), [*by, "n"], ["spearman"])[CORRELATION_COLUMNS]


def corrected_table(runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return mean and sd over seeds of `correction_of_run`, categories averaged first.

    Returns:
        `CORRECTED_COLUMNS`.
    """
    by = ["dataset", "variant", "method"]
    groups = pd.DataFrame(runs).groupby([*by, "seed"], sort=False)
    per_seed = groups[_AUROCS].mean(skipna=False)
    per_seed["reason"] = groups["reason"].agg(_first)
    return _over_seeds(per_seed.reset_index(), by, _AUROCS)[CORRECTED_COLUMNS]


def _over_seeds(per_seed: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    reason = per_seed.groupby(by, sort=False)["reason"].agg(_first).to_numpy()
    return over_seeds(per_seed, by, columns).assign(reason=reason)


def _first(reasons: "pd.Series[str]") -> str:
    return next((reason for reason in reasons if reason), "")


def read_correlations(path: Path) -> pd.DataFrame:
    """Read `complexity.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    names = ["dataset", "variant", "component", "measure", "images", "reason"]
    return read_table(path, CORRELATION_COLUMNS, text=names, rule="explain_scores")


def read_corrected(path: Path) -> pd.DataFrame:
    """Read `complexity_corrected.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(
        path,
        CORRECTED_COLUMNS,
        text=["dataset", "variant", "method", "reason"],
        rule="explain_scores",
    )


def correlations_display(table: pd.DataFrame) -> DisplayTable:
    """Return the correlations for people: a row per component, a column per measure and class."""
    by = ["dataset", "variant", "component"]
    shown = [
        number(mean, 2) + (f" ± {number(sd, 2)}" if not np.isnan(sd) else "")
        for mean, sd in zip(table["spearman_mean"], table["spearman_sd"], strict=True)
    ]
    cells = table[by].drop_duplicates().reset_index(drop=True)
    for measure, label in MEASURE_LABELS.items():
        for images in _IMAGES:
            kept = (table["measure"] == measure) & (table["images"] == images)
            column = table[kept].assign(shown=pd.Series(shown, table.index)).set_index(by)["shown"]
            cells[f"{label}, {images}"] = column.reindex(
                pd.MultiIndex.from_frame(cells[by])
            ).to_numpy()
    names = {"dataset": "Dataset", "variant": "Variant", "component": "Component"}
    reasons = sorted(set(table["reason"].dropna()) - {""})
    return plain(
        cells.rename(columns=names).astype(str),
        "Spearman's rank correlation with the size of the image's PNG (bits per value) and with "
        "its mean absolute gradient, on all, normal and anomalous test images; mean ± sd over "
        f"seeds, categories averaged first. {COMBINED}: the variant's combined score. Components "
        "stand once for all variants with the same training. A score that follows complexity "
        "among normal images alone measures complexity." + _empty_because(reasons),
        long=True,
    )


def corrected_display(table: pd.DataFrame) -> DisplayTable:
    """Return AUROC with and without the correction, for people."""
    labels = ["AUROC", "Corrected", "Difference", "Validation AUROC", "Corrected validation"]
    cells = table[["dataset", "variant"]].set_axis(["Dataset", "Variant"], axis=1)
    for name, label in zip(_AUROCS, labels, strict=True):
        pairs = zip(table[f"{name}_mean"], table[f"{name}_sd"], strict=True)
        cells[label] = [percent(mean, sd) for mean, sd in pairs]
    cells["Seeds"] = table["n_seeds"].astype(str)
    cells["Reason"] = table["reason"].fillna("")
    shown = plain(
        cells,
        "Percent, mean ± sd over seeds, categories averaged first. Corrected: each component's "
        "residual of the regression on both measures of complexity, fitted to validation normals, "
        "then combined as before. No other table uses the corrected score. Bold: best of a "
        "dataset.",
        long=True,
    )
    judged = [n for n in (0, 1, 3, 4) if labels[n] in shown.cells]
    marks = best(table, [f"{_AUROCS[n]}_mean" for n in judged], table["dataset"])
    shown.bold[[labels[n] for n in judged]] = marks.to_numpy()
    return shown


def _empty_because(reasons: list[str]) -> str:
    return f" Empty: {' '.join(reasons)}" if reasons else ""
