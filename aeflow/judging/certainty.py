"""Is a fusion certain when it is right? Its members' spread against its errors.

Members are other models of the same images, such as the seeds of a variant: a deep ensemble
(Lakshminarayanan et al. 2017).
"""

from typing import Any

import numpy as np

from aeflow.judging.metrics import Array, auroc_of_columns, missing_class

_NUMBERS = (
    *("right_certain", "wrong_certain", "right_uncertain", "wrong_uncertain"),
    *("error_rate", "error_rate_certain", "error_rate_uncertain"),
    *("aurc", "aurc_optimal", "aurc_excess"),
)


def risk_coverage(wrong: Array, uncertainty: Array) -> Array:
    """Return the share of errors among the k most certain images, for k = 1 ... N, shape (N,).

    The last value is the error rate of all. Images of equal uncertainty may be in any order: the
    curve is the mean over their orders. Source: El-Yaniv and Wiener 2010; Geifman and El-Yaniv
    2017.
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


def no_certainty() -> dict[str, Any]:
    """Return what `certainty` does where nothing can be computed."""
    return {**dict.fromkeys(_NUMBERS), "member_auroc": []}


def certainty(gt_label: Array, members: Array, test: Array, wrong: Array | None) -> dict[str, Any]:
    """Return whether a fusion is certain where it is right, as plain numbers for JSON.

    Uncertainty is the sample sd (n - 1) over members. A test image is certain if it is at most the
    median over all validation images: a limit that a detector has before it sees a test image, so
    it need not part the test images in halves.

    Args:
        members: (N, M) standardised scores (`standardised_members`).
        wrong: (N_test,) True where the fusion errs; None where it has no threshold.

    Returns:
        Of the test images: how many are right or wrong and certain or uncertain; error_rate, that
        of the certain and of the uncertain (None if there are none); aurc, its optimum, and the
        excess over that; member_auroc, a list. Without a threshold, or of one member (a study
        of one seed), only the last; nothing where a class is missing.
    """
    found = no_certainty()
    if missing_class(gt_label[test]):
        return found
    found["member_auroc"] = auroc_of_columns(gt_label[test], members[test]).tolist()
    if wrong is None or members.shape[1] < 2:
        return found
    uncertainty = members.std(axis=1, ddof=1)
    certain = uncertainty[test] <= np.median(uncertainty[~test])
    for name, chosen in (("certain", certain), ("uncertain", ~certain)):
        errors = wrong[chosen]
        found |= {f"wrong_{name}": int(errors.sum()), f"right_{name}": int((~errors).sum())}
        found[f"error_rate_{name}"] = float(errors.mean()) if errors.size else None
    area = aurc(risk_coverage(wrong, uncertainty[test]))
    optimal = optimal_aurc(int(wrong.sum()), wrong.size)
    found |= {"error_rate": float(wrong.mean()), "aurc": area, "aurc_optimal": optimal}
    return found | {"aurc_excess": area - optimal}
