"""How much the flow's score should weigh: AUROC over beta, from stored components alone.

S = beta * S_flow + (1 - beta) * S_recon (Zhao et al. 2023). No training and no scoring again: each
pair of definitions is ranked for all betas at once.
"""

from collections.abc import Hashable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.types import NORMAL, FlowScore, ReconstructionScore, Split
from aeflow.judging.metrics import Array, auroc_of_columns, missing_class
from aeflow.scoring.combine import Scores, component, standardise

PAPER_BETA = 0.9
_SWEPT = ["beta", "val_auroc", "test_auroc", "reason"]


def weighting_sweep(table: pd.DataFrame, betas: Sequence[float]) -> pd.DataFrame:
    """Return validation and test AUROC for every beta, definition and scaling.

    Equal in every row to `image_auroc` of `pred_score` of method `aeflow`: a component of weight
    0 is not read, standardisation is fitted on validation normals.

    Args:
        table: a score table with one or more definitions of both S_flow and S_recon.
        betas: weights of S_flow in [0, 1].

    Returns:
        flow, reconstruction, scaling, beta, val_auroc, test_auroc, reason: one row per
        combination, beta fastest. An AUROC that cannot be computed is NaN and `reason` says why;
        elsewhere it is empty.

    Raises:
        DataError: the table has no S_flow or no S_recon, or a component is not finite.
        ValueError: a beta outside [0, 1] (the configuration refuses it first).
    """
    beta = np.asarray(betas, dtype=np.float64)
    if not ((beta >= 0) & (beta <= 1)).all():
        raise ValueError("beta must be in [0, 1]")
    flows = [name.value for name in FlowScore if name in table.columns]
    reconstructions = [name.value for name in ReconstructionScore if name in table.columns]
    if not flows or not reconstructions:
        raise DataError(
            f"The score table has no {'S_recon' if flows else 'S_flow'}, so there is nothing to "
            f"weigh: sweep beta for variants of the method aeflow."
        )
    gt_label = table["gt_label"].to_numpy(int)
    test = (table["split"] == Split.TEST).to_numpy()
    normal = ~test & (gt_label == NORMAL)
    lacking = _lacking(gt_label, test)
    parts = []
    for scaling in ("raw", "standardised"):
        scaled = {
            name: _scaled(table, name, normal, scaling) for name in [*flows, *reconstructions]
        }
        for flow, reconstruction in product(flows, reconstructions):
            (s_flow, no_flow), (s_recon, no_recon) = scaled[flow], scaled[reconstruction]
            scores = np.outer(s_flow, beta) + np.outer(s_recon, 1 - beta)
            reason = np.where(beta < 1, no_recon, "").astype(object)
            reason[(beta > 0) & (no_flow != "")] = no_flow
            part = pd.DataFrame(
                {
                    "flow": flow,
                    "reconstruction": reconstruction,
                    "scaling": scaling,
                    "beta": beta,
                    "val_auroc": auroc_of_columns(gt_label[~test], scores[~test]),
                    "test_auroc": auroc_of_columns(gt_label[test], scores[test]),
                    "reason": np.where(reason == "", lacking, reason),
                }
            )
            part.loc[reason != "", ["val_auroc", "test_auroc"]] = np.nan
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def chosen_betas(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return the beta chosen on validation images, and the oracle's, for each kind of score.

    Chosen is the beta of the highest validation AUROC; among equals the one nearest to the
    paper's 0.9, and of two equally near the higher one. `oracle_beta` is the same choice by test
    labels: what a choice of beta could reach at best, not a result.

    Args:
        sweep: Output of `weighting_sweep`. Columns that were added to it (dataset, variant,
            seed...) are kept apart like the definitions: one choice for each of their values.

    Returns:
        The key columns, then beta, val_auroc and test_auroc of the choice, oracle_beta,
        oracle_test_auroc and reason. NaN where the AUROCs to choose by are missing, and `reason`
        says why.
    """
    keys = [name for name in sweep.columns if name not in _SWEPT]
    groups = sweep.groupby(keys, sort=False, dropna=False)
    return pd.DataFrame([_choice(dict(zip(keys, key, strict=True)), g) for key, g in groups])


def _choice(key: dict[str, Hashable], sweep: pd.DataFrame) -> dict[str, Any]:
    chosen, oracle = _best(sweep, "val_auroc"), _best(sweep, "test_auroc")
    return {
        **key,
        "beta": chosen["beta"],
        "val_auroc": chosen["val_auroc"],
        "test_auroc": chosen["test_auroc"],
        "oracle_beta": oracle["beta"],
        "oracle_test_auroc": oracle["test_auroc"],
        "reason": "" if pd.notna(chosen["beta"]) else sweep["reason"].iloc[0],
    }


def _best(sweep: pd.DataFrame, auroc: str) -> "pd.Series[Any]":
    """Return the row of the highest `auroc`, a row of NaN where there is none."""
    best = sweep[sweep[auroc] == sweep[auroc].max()]
    if best.empty:
        return pd.Series(np.nan, index=sweep.columns)
    # Rounded: 0.95 - 0.9 and 0.9 - 0.85 differ in the last bit.
    distance = (best["beta"] - PAPER_BETA).abs().round(9)
    order = np.lexsort([-best["beta"].to_numpy(), distance.to_numpy()])
    row: pd.Series[Any] = best.iloc[int(order[0])]
    return row


def _scaled(table: pd.DataFrame, name: str, normal: Array, scaling: str) -> tuple[Scores, str]:
    """Return a component as `pred_score` takes it; zeros and a reason where it has no scale."""
    values = component(table, name)
    if scaling == "raw":
        return values, ""
    try:
        return standardise(values, values[normal], name), ""
    except DataError as error:
        return np.zeros(len(table)), str(error)


def _lacking(gt_label: Array, test: Array) -> str:
    """Return a sentence on each split that lacks a class."""
    splits = (("Validation", gt_label[~test]), ("Test", gt_label[test]))
    return " ".join(f"{name} has no {missing_class(y)}." for name, y in splits if missing_class(y))
