"""Every metric of every variant that reads one score table, from that table alone."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.receipts import read_receipt
from aeflow.core.types import ANOMALOUS, NORMAL, Method, Split
from aeflow.judging.certainty import certainty, no_certainty
from aeflow.judging.metrics import (
    FEW,
    RANKING_METRICS,
    READINGS,
    THRESHOLD_METRICS,
    Array,
    auroc_of_columns,
    bootstrap_intervals,
    f1_max_threshold,
    image_auroc,
    missing_class,
    ranking_metrics,
    readings,
    threshold_curve,
    threshold_metrics,
)
from aeflow.judging.thresholds import Threshold, fit_threshold, unlike_validation
from aeflow.scoring.combine import components, pred_score, standardised_members
from aeflow.scoring.score_tables import read_scores
from aeflow.study.asked import JudgeAsked, VariantAsked
from aeflow.study.settings import EvaluationSettings

logger = logging.getLogger(__name__)

PIXEL_METRICS = ("pixel_auroc", "aupro")
_METRICS = (
    *(*RANKING_METRICS, *THRESHOLD_METRICS, *READINGS, "oracle_threshold"),
    *("threshold", "threshold_rule", "val_auroc", *PIXEL_METRICS),
)
Pixel = Mapping[str, Mapping[str, float | None]]


def evaluate(
    asked: JudgeAsked,
    scores: Path,
    scored: Path,
    prepared: Path,
    trained: Sequence[Path],
    statistics: Path | None = None,
) -> dict[str, Any]:
    """Return `judge_table` of files: tables, and receipts of scores, images, trainings."""
    trainings = [read_receipt(path).facts for path in trained]
    there = read_receipt(prepared).facts["counts"]["train"]
    return judge_table(
        read_scores(scores),
        read_receipt(scored).facts["pixel"],
        asked,
        n_train=max((training["n_train"] for training in trainings), default=there),
        trainings=trainings,
        statistics=read_scores(statistics) if statistics else None,
    )


def judge_table(
    table: pd.DataFrame,
    pixel: Pixel,
    asked: JudgeAsked,
    *,
    n_train: int,
    trainings: Sequence[Mapping[str, Any]],
    statistics: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Return all metrics of the variants that read a score table, as plain numbers for JSON.

    Standardisation, correction and thresholds are fitted on validation rows. Only the keys that
    begin with `oracle` are fitted on test labels, and nothing is chosen by them.

    Args:
        pixel: pixel_auroc and aupro of each anomaly map; empty without masks.
        asked: the variants and how each is judged.
        trainings: facts of each training behind the table: fit_seconds, best_epoch, peak_rss_mib.
        statistics: the score table of method `gradient` of the same images, for `score.correct`.

    Returns:
        `variants`: name -> metrics of test images at the threshold and without, val_auroc, pixel
        metrics, `intervals` of the test metrics, `operating` (what the threshold's rule asked for,
        of how many validation images, and their rates there), `per_defect`, of a fusion
        `certainty`, and `warnings`. A metric that cannot be computed is None, and `reasons` has a
        sentence for it under the metric's name; the same sentence holds inside `per_defect`
        (image_auroc). `certainty` there stands for all of it, or else for the error rate that is
        None. A variant whose score cannot be combined has only reasons. `components`: name ->
        val_auroc, test_auroc. Numbers of images, and cost of training.
    """
    variants = {
        name: _judge_variant(table, pixel, variant, asked.evaluation, statistics)
        for name, variant in asked.variants.items()
    }
    for warning in dict.fromkeys(w for found in variants.values() for w in found["warnings"]):
        logger.warning("%s", warning)
    gt_label, test = table["gt_label"].to_numpy(int), _is_test(table)
    memory = [t["peak_rss_mib"] for t in trainings if t["peak_rss_mib"] is not None]
    return {
        "variants": variants,
        "components": _components(table, gt_label, test),
        "n_train": n_train,
        **{
            f"n_{split}_{kind}": int(np.count_nonzero(rows & (gt_label == label)))
            for split, rows in (("val", ~test), ("test", test))
            for kind, label in (("normal", NORMAL), ("anomalous", ANOMALOUS))
        },
        "fit_seconds": sum(training["fit_seconds"] for training in trainings),
        "best_epoch": trainings[0]["best_epoch"] if len(trainings) == 1 else None,
        "peak_rss_mib": max(memory, default=None),
    }


def _judge_variant(
    table: pd.DataFrame,
    pixel: Pixel,
    variant: VariantAsked,
    evaluation: EvaluationSettings,
    statistics: pd.DataFrame | None,
) -> dict[str, Any]:
    """Return the metrics of one variant."""
    found: dict[str, Any] = {
        **{"method": variant.method.value, "encoder": variant.encoder, **dict.fromkeys(_METRICS)},
        **{"reasons": {}, "warnings": [], "intervals": {}, "per_defect": {}, "certainty": None},
        "operating": {},
    }
    fusion = variant.method == Method.FUSION
    try:
        scores = pred_score(table, variant.method, variant.score, statistics)
    except DataError as error:
        # The other variants of the table must not wait until this one's settings are mended.
        found |= {"reasons": dict.fromkeys(_METRICS, str(error)), "warnings": [str(error)]}
        return found | ({"certainty": no_certainty()} if fusion else {})
    gt_label, test = table["gt_label"].to_numpy(int), _is_test(table)
    known, judged = (gt_label[~test], scores[~test]), (gt_label[test], scores[test])
    fitted = fit_threshold(*known, variant.threshold)
    found |= _judge_test(*judged, fitted.value, evaluation)
    found |= {"threshold": fitted.value, "threshold_rule": fitted.rule}
    found["operating"] = _operating(*known, fitted)
    found |= {"val_auroc": image_auroc(*known)}
    found |= {name: pixel.get(variant.map or "", {}).get(name) for name in PIXEL_METRICS}
    found["per_defect"] = _per_defect(table["defect"].to_numpy()[test], *judged)
    found["warnings"] = _warnings(known, judged, fitted)
    if fusion:
        members = standardised_members(table, variant.score, statistics)
        wrong = None
        if fitted.value is not None:
            wrong = (judged[1] >= fitted.value) != (judged[0] != NORMAL)
        found["certainty"] = certainty(gt_label, members, test, wrong)
    found["reasons"] = _reasons(found, known[0], judged[0], fitted, bool(pixel))
    return found


def _warnings(
    known: tuple[Array, Array], judged: tuple[Array, Array], fitted: Threshold
) -> list[str]:
    """Return sentences on what the metrics of a variant do not bear.

    Args:
        known: labels and scores of the validation images.
        judged: those of the test images.
    """
    normals, scores = known[1][known[0] == NORMAL], np.concatenate([known[1], judged[1]])
    test_normals = judged[1][judged[0] == NORMAL]
    found = [fitted.warning or fitted.reason, _few_tests(judged[0])]
    if fitted.value is not None:
        found.append(unlike_validation(normals, test_normals, fitted.value))
    if scores.size and np.ptp(scores) == 0:
        found.append(f"Every image has the score {scores[0]:g}: there is nothing to rank by.")
    return [sentence for sentence in found if sentence]


def _few_tests(gt_label: Array) -> str | None:
    """Return a sentence where the test has few images of a class.

    That it has none of one, or none at all, was told when the images were prepared.
    """
    normal, anomalous = (int(np.count_nonzero(gt_label == kind)) for kind in (NORMAL, ANOMALOUS))
    if missing_class(gt_label) or min(normal, anomalous) >= FEW:
        return None
    return (
        f"The test has {normal} normal and {anomalous} anomalous images: with fewer than {FEW} of "
        "a class, metrics depend on single images."
    )


def _is_test(table: pd.DataFrame) -> Array:
    return np.asarray((table["split"] == Split.TEST).to_numpy())


def _components(
    table: pd.DataFrame, gt_label: Array, test: Array
) -> dict[str, dict[str, float | None]]:
    """Return the AUROC of each component alone."""
    names = components(table)
    values = table[names].to_numpy(np.float64)
    aurocs = {
        "val_auroc": auroc_of_columns(gt_label[~test], values[~test]),
        "test_auroc": auroc_of_columns(gt_label[test], values[test]),
    }
    return {
        name: {
            key: None if np.isnan(auroc[k]) else float(auroc[k]) for key, auroc in aurocs.items()
        }
        for k, name in enumerate(names)
    }


def _judge_test(
    gt_label: Array, scores: Array, threshold: float | None, evaluation: EvaluationSettings
) -> dict[str, Any]:
    """Return the metrics of the test images and their intervals, nothing without a class."""
    if missing_class(gt_label):
        return {}
    curve = threshold_curve(gt_label, scores)
    found = ranking_metrics(curve) | readings(curve)
    if threshold is not None:
        found |= threshold_metrics(curve, threshold)
    return {
        **{name: float(value) for name, value in found.items()},
        "oracle_threshold": f1_max_threshold(curve),
        "intervals": bootstrap_intervals(curve, threshold, evaluation),
    }


def _operating(gt_label: Array, scores: Array, fitted: Threshold) -> dict[str, Any]:
    """Return what a threshold asked of validation images, and what these show there."""
    if fitted.value is None:
        return {}
    called = scores >= fitted.value
    found, alarms = called[gt_label == ANOMALOUS], called[gt_label == NORMAL]
    return {
        "asked": fitted.asked,
        "n_fitted_normal": fitted.normal,
        "n_fitted_anomalous": fitted.anomalous,
        "val_sensitivity": float(found.mean()) if found.size else None,
        "val_specificity": float(1 - alarms.mean()) if alarms.size else None,
    }


def _per_defect(defect: Array, gt_label: Array, scores: Array) -> dict[str, dict[str, Any]]:
    """Return the number of images of each defect and their AUROC against all normal images."""
    normal = gt_label == NORMAL
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(set(defect[~normal])):
        rows = normal | (defect == name)
        found[name] = {
            "n": int((defect[~normal] == name).sum()),
            "image_auroc": image_auroc(gt_label[rows], scores[rows]),
        }
    return found


def _reasons(
    found: dict[str, Any], validation: Array, test: Array, fitted: Threshold, has_masks: bool
) -> dict[str, str]:
    """Return a sentence for each metric that is None."""
    no_test = f"Test has no {missing_class(test)}." if missing_class(test) else None
    sentence = dict.fromkeys((*RANKING_METRICS, "oracle_threshold"), no_test)
    sentence |= dict.fromkeys(THRESHOLD_METRICS, no_test or fitted.reason)
    few = "The test has fewer images of the class than such a share of it can be told of."
    sentence |= dict.fromkeys(READINGS, no_test or few)
    sentence |= dict.fromkeys(("threshold", "threshold_rule"), fitted.reason)
    sentence["val_auroc"] = f"Validation has no {missing_class(validation)}."
    no_pixels = (
        "The masks show only normal or only anomalous pixels, or the map was not made."
        if has_masks
        else "There are no pixel masks, or the method makes no map."
    )
    sentence |= dict.fromkeys(PIXEL_METRICS, no_pixels)
    reasons = {name: str(sentence[name]) for name in _METRICS if found[name] is None}
    sure = found["certainty"]
    if sure and sure["aurc"] is None:
        alone = "One seed has no disagreement with others: add seeds to the study."
        return reasons | {"certainty": str(no_test or fitted.reason or alone)}
    for name in ("certain", "uncertain"):
        if sure and sure[f"error_rate_{name}"] is None:
            reasons[f"error_rate_{name}"] = f"No test image is {name}."
    return reasons
