"""Is the difference to the reference real? Each variant's AUROC beside the reference's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.display.table import DisplayTable, percent, plain, points
from aeflow.judging.delong import (
    Comparison,
    compare_aurocs,
    holm,
    mean_auroc,
    mean_comparison,
    mean_seed_differences,
    seed_differences,
)
from aeflow.questions.results import read_table
from aeflow.scoring.predictions import Scored, SeedScores

LEVEL = 0.05  # of the tests, after Holm's correction
_NAMES = ["dataset", "variant", "reference", "reason"]
COMPARISON_COLUMNS = [
    *["dataset", "variant", "reference", "auroc", "auroc_low", "auroc_high", "reference_auroc"],
    *["difference", "low", "high", "z", "p_value", "p_holm"],
    *["seed_mean", "seed_sd", "seed_low", "seed_high", "n_seeds", "reason"],
]
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
_FEW_SEEDS = "One seed has no interval over seeds."


def comparison_table(scored: Scored, reference: str) -> pd.DataFrame:
    """Return every variant's test AUROC beside the reference's, a family of tests per dataset.

    Args:
        scored: scores of the test images.
        reference: the variant that the others are tested against.

    Returns:
        `COMPARISON_COLUMNS`, shares in [0, 1]; differences are the variant's minus the
        reference's. `auroc_low` and `auroc_high` are DeLong's interval of the variant alone, cut
        at 0 and 1. A row of the reference itself has no difference.
    """
    rows = [
        _row(dataset, name, scores, reference, variants.get(reference))
        for dataset, variants in scored.items()
        for name, scores in variants.items()
    ]
    numbers = [name for name in COMPARISON_COLUMNS if name not in _NAMES]
    table = pd.DataFrame(rows, columns=COMPARISON_COLUMNS).astype(
        dict.fromkeys(numbers, "float64")
    )
    table["p_holm"] = table.groupby("dataset")["p_value"].transform(holm)
    return table


def _row(
    dataset: str,
    variant: str,
    first: Mapping[str, SeedScores],
    reference: str,
    second: Mapping[str, SeedScores] | None,
) -> dict[str, Any]:
    alone = mean_auroc([part.labelled for part in first.values()])
    row: dict[str, Any] = {"dataset": dataset, "variant": variant, "reference": reference}
    row |= {"auroc": alone.auroc}
    if alone.auroc is not None and alone.standard_error is not None:
        half = _Z * alone.standard_error
        row["auroc_low"] = max(0.0, alone.auroc - half)
        row["auroc_high"] = min(1.0, alone.auroc + half)
    if second is None:
        return row | {"reason": f"{reference} does not run on this dataset."}
    if variant == reference:
        reasons = [alone.reason] if alone.reason else []
        seeds = next(iter(first.values())).score.shape[1]
        row |= {"reference_auroc": alone.auroc, "n_seeds": seeds}
        return row | {"reason": " ".join(["This is the reference.", *reasons])}
    parts = {name: (*first[name].labelled, second[name].score) for name in first}
    tests = [compare_aurocs(*part) for part in parts.values()]
    return row | _tested(mean_comparison(tests)) | _over_seeds(tests, list(parts.values()))


def _tested(test: Comparison) -> dict[str, Any]:
    names = ("difference", "low", "high", "z", "p_value", "reason")
    return {name: getattr(test, name) for name in names} | {"reference_auroc": test.second}


def _over_seeds(tests: Sequence[Comparison], parts: Sequence[Any]) -> dict[str, Any]:
    reason = next((test.reason for test in tests if test.reason), "")
    if any(test.difference is None for test in tests):
        return {"reason": reason}
    seeds = mean_seed_differences([seed_differences(*part) for part in parts])
    few = _FEW_SEEDS if seeds.sd is None else ""
    return {
        "seed_mean": seeds.mean,
        "seed_sd": seeds.sd,
        "seed_low": seeds.low,
        "seed_high": seeds.high,
        "n_seeds": len(seeds.difference),
        "reason": " ".join(filter(None, [reason, few])),
    }


def read_comparison(path: Path) -> pd.DataFrame:
    """Read `comparison.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(path, COMPARISON_COLUMNS, text=_NAMES, rule="compare_variants")


def comparison_display(table: pd.DataFrame) -> DisplayTable:
    """Return `comparison_table` for people; bold differences are significant after Holm."""
    rows = table[table["variant"] != table["reference"]]
    cells = pd.DataFrame(
        {
            "Dataset": rows["dataset"],
            "Variant": rows["variant"],
            "Reference": rows["reference"],
            "AUROC": [percent(value) for value in rows["auroc"]],
            "Reference's": [percent(value) for value in rows["reference_auroc"]],
            "Difference": [points(value) for value in rows["difference"]],
            "Test images: 95 %": _ends(rows["low"], rows["high"]),
            "z": ["" if pd.isna(z) else f"{z:.2f}".replace("-", "−") for z in rows["z"]],
            "p": [p_text(value) for value in rows["p_value"]],
            "p (Holm)": [p_text(value) for value in rows["p_holm"]],
            "Seed by seed": [
                points(mean) + ("" if pd.isna(sd) else f" ± {100 * sd:.1f}")
                for mean, sd in zip(rows["seed_mean"], rows["seed_sd"], strict=True)
            ],
            "Seeds: 95 %": _ends(rows["seed_low"], rows["seed_high"]),
            "Seeds": ["" if pd.isna(count) else str(int(count)) for count in rows["n_seeds"]],
            "Reason": rows["reason"].fillna(""),
        }
    ).reset_index(drop=True)
    if rows.empty:
        return plain(cells, "There is no second variant to compare with the reference.")
    found = plain(
        cells,
        "AUROC in percent, mean over seeds; differences in percentage points, the variant minus "
        "the reference. Positive: the variant is better. Several categories: their mean.\n"
        "Test images: DeLong's paired test of the mean AUROC over seeds, on the same images. It "
        "holds the trained models fixed and asks about other test images. p (Holm) is corrected "
        f"for all tests of the dataset; bold: below {LEVEL}.\n"
        "Seed by seed: mean ± sd of the difference, and Student's interval of the mean. It "
        "holds the test images fixed and asks about other trainings; where one side has no "
        "seeds, its value stands beside every seed. A claim about the method needs both.",
    )
    if "Difference" in found.cells:
        found.bold["Difference"] = rows["p_holm"].lt(LEVEL).to_numpy()
    return found


def p_text(value: float) -> str:
    """Format a p-value with two digits; below 0.001 it is "<0.001", NaN an empty cell."""
    if pd.isna(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _ends(low: pd.Series, high: pd.Series) -> list[str]:
    """Return intervals of differences, `−1.2 to +0.3`: a dash would look like a minus."""
    pairs = zip(low, high, strict=True)
    return ["" if pd.isna(a) else f"{points(a)} to {points(b)}" for a, b in pairs]
