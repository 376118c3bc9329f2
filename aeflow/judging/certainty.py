"""Deep ensembles over seeds: is the ensemble certain when it is right?

Members are the same cell trained with other seeds (Lakshminarayanan et al. 2017). No choice here
sees a test label: scales, threshold and the limit of certainty come from validation images.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.types import NORMAL, SCORE_TABLE_COLUMNS, Method, Split
from aeflow.judging.metrics import (
    RANKING_METRICS,
    THRESHOLD_METRICS,
    Array,
    auroc_of_columns,
    missing_class,
    ranking_metrics,
    threshold_curve,
    threshold_metrics,
)
from aeflow.judging.thresholds import fit_threshold
from aeflow.scoring.combine import pred_scores, standardise
from aeflow.study.settings import ScoreSettings, ThresholdSettings

_AT_THRESHOLD = (
    *(*THRESHOLD_METRICS, "threshold", "threshold_rule", "certain_limit"),
    *("right_certain", "wrong_certain", "right_uncertain", "wrong_uncertain"),
    *("error_rate", "error_rate_certain", "error_rate_uncertain"),
    *("aurc", "aurc_optimal", "aurc_excess"),
)
_ALL = (*RANKING_METRICS, "member_auroc_mean", *_AT_THRESHOLD)


def ensemble_scores(
    tables: Sequence[pd.DataFrame], method: Method, score: ScoreSettings
) -> pd.DataFrame:
    """Return the ensemble's score and uncertainty of every image.

    Each member's score is standardised with mean and sd of its own validation normals, so that no
    member dominates. `pred_score` is the members' mean, `uncertainty` their sample sd (n - 1).

    Args:
        tables: score tables of two or more seeds of one cell.
        method: of the cell.
        score: of the cell.

    Returns:
        The identity columns of a score table, pred_score, uncertainty, and member_1, member_2...

    Raises:
        DataError: fewer than two members, other images, or a score without a scale.
    """
    if len(tables) < 2:
        raise DataError(
            f"An ensemble needs 2 or more seeds, there is {len(tables)}: add seeds to the study."
        )
    raw = pred_scores(tables, method, score)
    found = tables[0][list(SCORE_TABLE_COLUMNS)].reset_index(drop=True)
    normal = (found["split"] == Split.VALIDATION) & (found["gt_label"] == NORMAL)
    members = np.column_stack(
        [standardise(s, s[normal.to_numpy()], "score of a member") for s in raw.T]
    )
    found["pred_score"] = members.mean(axis=1)
    found["uncertainty"] = members.std(axis=1, ddof=1)
    for number, values in enumerate(members.T, start=1):
        found[f"member_{number}"] = values
    return found


def risk_coverage(wrong: Array, uncertainty: Array) -> Array:
    """Return the share of errors among the k most certain images, for k = 1 ... N, shape (N,).

    The last value is the error rate of all. Images of equal uncertainty may be in any order: the
    curve is the mean over their orders. Source: El-Yaniv and Wiener 2010; Geifman and El-Yaniv
    2017.

    Args:
        wrong: (N,) True where the ensemble errs.
        uncertainty: (N,).
    """
    _, level = np.unique(uncertainty, return_inverse=True)
    errors_of_level = np.bincount(level, weights=wrong) / np.bincount(level)
    return np.asarray(errors_of_level[np.sort(level)].cumsum() / np.arange(1, len(wrong) + 1))


def aurc(risk: Array) -> float:
    """Return the area under a risk-coverage curve (N,): its mean over coverages 1/N ... 1.

    0 without errors; about the error rate where uncertainty tells nothing. Source: Geifman, Uziel
    and El-Yaniv 2019.
    """
    return float(np.mean(risk))


def optimal_aurc(errors: int, images: int) -> float:
    """Return the area where every error is less certain than every right image, exact for N."""
    wrong = np.arange(images) >= images - errors
    return aurc(risk_coverage(wrong, np.arange(images)))


def evaluate_ensemble(ensemble: pd.DataFrame, threshold: ThresholdSettings) -> dict[str, Any]:
    """Return the metrics of an ensemble on test images as plain numbers for JSON.

    An image is called anomalous at a score >= threshold, fitted on validation images by the
    configured rule. It is certain if its uncertainty is at most the median over all validation
    images: a limit that a detector has before it sees a test image, so on test images it need
    not part them in halves.

    Args:
        ensemble: Output of `ensemble_scores`.
        threshold: of the cell.

    Returns:
        n_members, n_test; image_auroc, the other ranking and threshold metrics; member_auroc (a
        list) and member_auroc_mean; threshold, threshold_rule, certain_limit; the counts
        right_certain, wrong_certain, right_uncertain, wrong_uncertain; error_rate,
        error_rate_certain, error_rate_uncertain; aurc, aurc_optimal, aurc_excess (aurc minus
        optimal), and risk (a list: `risk_coverage`; coverage is its index + 1 over n_test). What
        cannot be computed is None and `reasons` has a sentence under its name.
    """
    gt_label = ensemble["gt_label"].to_numpy(int)
    scores = ensemble["pred_score"].to_numpy()
    uncertainty = ensemble["uncertainty"].to_numpy()
    members = ensemble.filter(regex=r"^member_\d+$").to_numpy()
    test = (ensemble["split"] == Split.TEST).to_numpy()
    n_members, n_test = members.shape[1], int(test.sum())
    if missing := missing_class(gt_label[test]):
        return no_ensemble(n_members, n_test, f"Test has no {missing}.")
    found: dict[str, Any] = dict.fromkeys(_ALL)
    found |= {"n_members": n_members, "n_test": n_test, "risk": []}
    reasons: dict[str, str] = {}
    curve = threshold_curve(gt_label[test], scores[test])
    found |= {name: float(value) for name, value in ranking_metrics(curve).items()}
    found["member_auroc"] = auroc_of_columns(gt_label[test], members[test]).tolist()
    found["member_auroc_mean"] = float(np.mean(found["member_auroc"]))
    fitted = fit_threshold(gt_label[~test], scores[~test], threshold)
    if fitted.value is None:
        reasons |= dict.fromkeys(_AT_THRESHOLD, str(fitted.reason))
        return found | {"reasons": reasons}
    found |= {"threshold": fitted.value, "threshold_rule": fitted.rule}
    found |= {k: float(v) for k, v in threshold_metrics(curve, fitted.value).items()}
    wrong = (scores[test] >= fitted.value) != (gt_label[test] != NORMAL)
    limit = float(np.median(uncertainty[~test]))
    certain = uncertainty[test] <= limit
    found |= {"certain_limit": limit, **_table(wrong, certain), **_areas(wrong, uncertainty[test])}
    for name, chosen in (("certain", certain), ("uncertain", ~certain)):
        if chosen.any():
            found[f"error_rate_{name}"] = float(wrong[chosen].mean())
        else:
            reasons[f"error_rate_{name}"] = f"No test image is {name}."
    return found | {"reasons": reasons}


def no_ensemble(n_members: int, n_test: int, reason: str) -> dict[str, Any]:
    """Return what `evaluate_ensemble` does where nothing can be computed, for one reason."""
    found: dict[str, Any] = dict.fromkeys(_ALL)
    found |= {"n_members": n_members, "n_test": n_test, "member_auroc": [], "risk": []}
    return found | {"reasons": dict.fromkeys(_ALL, reason)}


def _table(wrong: Array, certain: Array) -> dict[str, int]:
    return {
        f"{'wrong' if w else 'right'}_{'certain' if c else 'uncertain'}": int(
            np.count_nonzero((wrong == w) & (certain == c))
        )
        for w in (False, True)
        for c in (True, False)
    }


def _areas(wrong: Array, uncertainty: Array) -> dict[str, Any]:
    risk = risk_coverage(wrong, uncertainty)
    optimal = optimal_aurc(int(wrong.sum()), len(wrong))
    return {
        "error_rate": float(wrong.mean()),
        "aurc": aurc(risk),
        "aurc_optimal": optimal,
        "aurc_excess": aurc(risk) - optimal,
        "risk": risk.tolist(),
    }
