"""Which weight between S_flow and S_recon? The sweep over beta as tables, for machines and people.

A beta is chosen for a dataset, not for each of its categories: AUROCs are averaged over categories
first, within each seed. Every seed chooses for itself.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from aeflow.display.table import DisplayTable, best, number, percent, plain
from aeflow.judging.over_seeds import over_seeds
from aeflow.judging.weighting import PAPER_BETA, chosen_betas
from aeflow.questions.results import read_table

DEFINITION = ["dataset", "variant", "flow", "reconstruction", "scaling"]
# The betas that the table names whatever the configuration asks for.
NAMED_BETAS = {"paper": PAPER_BETA, "reconstruction_only": 0.0, "flow_only": 1.0}
_AUROCS = ["val_auroc", "test_auroc"]
_CHOSEN = ["beta", *_AUROCS]
_NAMED = [f"{name}_{auroc}" for name in NAMED_BETAS for auroc in _AUROCS]
_ORACLE = ["oracle_beta", "oracle_test_auroc"]
_SUMMARISED = [*_CHOSEN, *_NAMED, *_ORACLE]


def _mean_and_sd(columns: Sequence[str]) -> list[str]:
    return [f"{column}_{what}" for column in columns for what in ("mean", "sd")]


SWEEP_COLUMNS = [*DEFINITION, "beta", "n_seeds", *_mean_and_sd(_AUROCS), "reason"]
WEIGHTING_COLUMNS = [*DEFINITION, "n_seeds", *_mean_and_sd(_SUMMARISED), "reason"]


def average_categories(sweeps: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the AUROCs of every seed, the categories of a dataset averaged.

    Args:
        sweeps: Outputs of `weighting_sweep`, each with columns dataset, category, variant, seed.

    Returns:
        `DEFINITION`, beta, seed, val_auroc, test_auroc, reason. An AUROC that one category lacks
        is NaN: a mean over the others would be a mean of something else. No rows for no sweeps.
    """
    by = [*DEFINITION, "beta", "seed"]
    if not sweeps:
        return pd.DataFrame(columns=[*by, *_AUROCS, "reason"])
    groups = pd.concat(sweeps, ignore_index=True).groupby(by, sort=False)
    # The largest text is a sentence wherever one category has one.
    return groups[_AUROCS].mean(skipna=False).join(groups["reason"].max()).reset_index()


def sweep_table(per_seed: pd.DataFrame) -> pd.DataFrame:
    """Return mean and sd over seeds of both AUROCs at every beta.

    Args:
        per_seed: Output of `average_categories`.

    Returns:
        `SWEEP_COLUMNS`.
    """
    return _summary(per_seed, per_seed, [*DEFINITION, "beta"], _AUROCS, SWEEP_COLUMNS)


def weighting_table(per_seed: pd.DataFrame) -> pd.DataFrame:
    """Return what the choice of beta on validation images gives, beside fixed betas.

    Args:
        per_seed: Output of `average_categories`, `NAMED_BETAS` among its betas.

    Returns:
        `WEIGHTING_COLUMNS`: mean and sd over seeds of the chosen beta and its AUROCs, of the
        AUROCs at the `NAMED_BETAS`, and of the oracle's beta and its test AUROC.
    """
    if per_seed.empty:
        return pd.DataFrame(columns=WEIGHTING_COLUMNS)
    key = [*DEFINITION, "seed"]
    table = chosen_betas(per_seed).drop(columns="reason")
    for name, beta in NAMED_BETAS.items():
        fixed = per_seed.loc[per_seed["beta"] == beta, [*key, *_AUROCS]]
        fixed = fixed.rename(columns={auroc: f"{name}_{auroc}" for auroc in _AUROCS})
        table = table.merge(fixed, on=key, how="left", validate="one_to_one")
    return _summary(table, per_seed, DEFINITION, _SUMMARISED, WEIGHTING_COLUMNS)


def _summary(
    values: pd.DataFrame,
    per_seed: pd.DataFrame,
    by: list[str],
    columns: list[str],
    shown: list[str],
) -> pd.DataFrame:
    if values.empty:
        return pd.DataFrame(columns=shown)
    reasons = per_seed.groupby(by, sort=False)["reason"].max()
    return over_seeds(values, by, columns).join(reasons, on=by)[shown]


def read_sweep(path: Path) -> pd.DataFrame:
    """Read `weighting_sweep.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(path, SWEEP_COLUMNS, text=[*DEFINITION, "reason"], rule="sweep_weighting")


def read_weighting(path: Path) -> pd.DataFrame:
    """Read `weighting.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(
        path, WEIGHTING_COLUMNS, text=[*DEFINITION, "reason"], rule="sweep_weighting"
    )


def weighting_display(table: pd.DataFrame) -> DisplayTable:
    """Return `weighting_table` for people: a row per dataset, variant and kind of score."""
    cells = table[DEFINITION].copy()
    cells.columns = pd.Index(["Dataset", "Variant", "S_flow", "S_recon", "Scaling"])
    if table.empty:
        return plain(
            cells, "The study has no variant of the method aeflow to weigh scores of.", long=True
        )
    shown = {
        "Beta": "beta",
        "AUROC, validation": "val_auroc",
        "AUROC, test": "test_auroc",
        f"Test at beta {PAPER_BETA}": "paper_test_auroc",
        "Test at 0 (S_recon)": "reconstruction_only_test_auroc",
        "Test at 1 (S_flow)": "flow_only_test_auroc",
        "Beta (oracle)": "oracle_beta",
        "AUROC, test (oracle)": "oracle_test_auroc",
    }
    for label, name in shown.items():
        format_value = _beta if name.endswith("beta") else percent
        values = zip(table[f"{name}_mean"], table[f"{name}_sd"], strict=True)
        cells[label] = [format_value(mean, sd) for mean, sd in values]
    cells["Why empty"] = table["reason"].fillna("")
    shares = "/".join(sorted({str(count) for count in table["n_seeds"]}))
    display = plain(
        cells,
        f"AUROC in percent, mean ± sd over seeds ({shares}), categories averaged first. Beta is "
        "the weight of S_flow, chosen by each seed on validation images; among equals the nearest "
        "to the paper's 0.9. Oracle: chosen by test labels, what a choice could reach at best, "
        "not a result. Bold: the kind of score with the highest validation AUROC of a variant.",
        long=True,
    )
    if "AUROC, validation" in display.cells:
        rival = table["dataset"] + "/" + table["variant"]
        mark = best(table, ["val_auroc_mean"], rival)["val_auroc_mean"]
        display.bold["AUROC, validation"] = display.bold["AUROC, test"] = mark
    return display


def _beta(mean: float, sd: float) -> str:
    """Format a beta, with its sd where the seeds differ."""
    differs = pd.notna(sd) and round(sd, 2) > 0
    return number(mean, 2) + (f" ± {number(sd, 2)}" if differs else "")
