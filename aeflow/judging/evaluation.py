"""Every metric of one cell and seed, from its score table alone."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from aeflow.core.schema import Strict, validate
from aeflow.core.types import ANOMALOUS, NORMAL, AnomalyMap, Method, Split
from aeflow.judging.metrics import (
    RANKING_METRICS,
    THRESHOLD_METRICS,
    Array,
    bootstrap_intervals,
    f1_max_threshold,
    image_auroc,
    missing_class,
    ranking_metrics,
    roc_vertices,
    threshold_curve,
    threshold_metrics,
)
from aeflow.judging.thresholds import Threshold, fit_threshold
from aeflow.scoring.combine import Scores, component, components, pred_score
from aeflow.scoring.score_tables import check_scores
from aeflow.study.settings import EvaluationSettings, ScoreSettings, ThresholdSettings

PIXEL_METRICS = ("pixel_auroc", "aupro")


class Identity(Strict):
    """Which result a file of metrics holds."""

    study: str
    dataset: str
    category: str
    variant: str
    method: Method
    encoder: str | None
    seed: int


class JudgingSettings(Strict):
    """The settings that turn a score table into metrics."""

    score: ScoreSettings
    threshold: ThresholdSettings
    evaluation: EvaluationSettings


def evaluate_scores(
    table: pd.DataFrame,
    pixel: dict[str, dict[str, float | None]],
    *,
    method: Method,
    score: ScoreSettings,
    threshold: ThresholdSettings,
    evaluation: EvaluationSettings,
) -> dict[str, Any]:
    """Return all metrics of a score table as plain numbers for JSON.

    Standardisation and threshold are fitted on validation rows. Only the keys that begin with
    `oracle` are fitted on test labels, and nothing is chosen by them.

    Args:
        table: one row per validation and test image (`check_scores`).
        pixel: pixel_auroc and aupro of each anomaly map; empty without masks.

    Returns:
        A metric that cannot be computed is None, and `reasons` has a sentence for it under the
        metric's name. The same sentence holds inside `components` (val_auroc; image_auroc for
        test_auroc) and `per_defect` (image_auroc). `intervals` are those of the test metrics.

    Raises:
        DataError: the table is wrong or a score cannot be combined.
    """
    check_scores(table)
    gt_label = table["gt_label"].to_numpy(int)
    scores = pred_score(table, method, score)
    test = (table["split"] == Split.TEST).to_numpy()
    validation = ~test
    fitted = fit_threshold(gt_label[validation], scores[validation], threshold)
    test_metrics, intervals, roc = _judge_test(
        gt_label[test], scores[test], fitted.value, evaluation
    )
    metrics: dict[str, Any] = {
        **test_metrics,
        "threshold": fitted.value,
        "threshold_rule": fitted.rule,
        "val_auroc": image_auroc(gt_label[validation], scores[validation]),
        **{name: pixel.get(_map_of(method, score), {}).get(name) for name in PIXEL_METRICS},
    }
    return {
        **metrics,
        "reasons": _reasons(metrics, gt_label[validation], gt_label[test], fitted, bool(pixel)),
        "intervals": intervals,
        "roc": roc,
        "components": {
            name: {
                "val_auroc": image_auroc(gt_label[validation], values[validation]),
                "test_auroc": image_auroc(gt_label[test], values[test]),
            }
            for name, values in ((name, component(table, name)) for name in components(table))
        },
        "per_defect": _per_defect(table["defect"].to_numpy()[test], gt_label[test], scores[test]),
        "n_val_normal": int((gt_label[validation] == NORMAL).sum()),
        "n_val_anomalous": int((gt_label[validation] == ANOMALOUS).sum()),
        "n_test_normal": int((gt_label[test] == NORMAL).sum()),
        "n_test_anomalous": int((gt_label[test] == ANOMALOUS).sum()),
    }


def metrics_content(
    table: pd.DataFrame,
    scored: dict[str, Any],
    identity: Identity,
    settings: JudgingSettings,
    *,
    trainings: Sequence[dict[str, Any]],
    n_train: int,
) -> dict[str, Any]:
    """Return what a metrics file holds: `evaluate_scores`, what it cost and how it came about.

    Args:
        table: one row per validation and test image (`check_scores`).
        scored: the JSON beside it: `pixel` as for `evaluate_scores`, and `scores_sha256`.
        identity: which result it is.
        settings: as configured.
        trainings: the summary of each training behind the scores.
        n_train: number of training images.

    Raises:
        DataError: the table is wrong or a score cannot be combined.
    """
    metrics = evaluate_scores(
        table,
        scored["pixel"],
        method=identity.method,
        score=settings.score,
        threshold=settings.threshold,
        evaluation=settings.evaluation,
    )
    return {
        **identity.model_dump(),
        **metrics,
        "fit_seconds": sum(training["fit_seconds"] for training in trainings),
        "best_epoch": trainings[0]["best_epoch"] if len(trainings) == 1 else None,
        "peak_rss_mib": max((t["peak_rss_mib"] for t in trainings), default=None),
        "n_train": n_train,
        "scores_sha256": scored["scores_sha256"],
        "settings": settings.model_dump(mode="json"),
    }


def combined_score(table: pd.DataFrame, metrics: dict[str, Any]) -> Scores:
    """Return the score that a run's threshold was fitted to, one per row of its score table.

    Raises:
        ConfigError: the run's metrics hold no valid score settings.
    """
    where = f"settings.score of the metrics of {metrics['variant']}"
    settings = validate(ScoreSettings, metrics["settings"].get("score"), where)
    return pred_score(table, Method(metrics["method"]), settings)


def _map_of(method: Method, score: ScoreSettings) -> str:
    """Return the configured map, or the only one that the method makes; a peer's is its own."""
    if method.peer:
        return method.value
    if method == Method.AUTOENCODER:
        return AnomalyMap.DIFFERENCE
    return AnomalyMap.FLOW if method == Method.FLOW else score.map


def _judge_test(
    gt_label: Array, scores: Array, threshold: float | None, evaluation: EvaluationSettings
) -> tuple[dict[str, float | None], dict[str, list[float]], dict[str, list[float]]]:
    """Return the metrics of the test images, their intervals and the ROC curve."""
    values: dict[str, float | None] = dict.fromkeys(
        (*RANKING_METRICS, *THRESHOLD_METRICS, "oracle_threshold")
    )
    if missing_class(gt_label):
        return values, {}, {"fpr": [], "tpr": []}
    curve = threshold_curve(gt_label, scores)
    found = ranking_metrics(curve)
    if threshold is not None:
        found |= threshold_metrics(curve, threshold)
    values |= {name: float(value) for name, value in found.items()}
    values["oracle_threshold"] = f1_max_threshold(curve)
    return values, bootstrap_intervals(curve, threshold, evaluation), roc_vertices(curve)


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
    metrics: dict[str, Any], validation: Array, test: Array, fitted: Threshold, has_masks: bool
) -> dict[str, str]:
    """Return a sentence for each metric that is None."""
    no_test = f"Test has no {missing_class(test)}." if missing_class(test) else None
    sentence = dict.fromkeys((*RANKING_METRICS, "oracle_threshold"), no_test)
    sentence |= dict.fromkeys(THRESHOLD_METRICS, no_test or fitted.reason)
    sentence |= dict.fromkeys(("threshold", "threshold_rule"), fitted.reason)
    sentence["val_auroc"] = f"Validation has no {missing_class(validation)}."
    no_pixels = (
        "The masks show only normal or only anomalous pixels, or the map was not made."
        if has_masks
        else "There are no pixel masks, or the method makes no map."
    )
    sentence |= dict.fromkeys(PIXEL_METRICS, no_pixels)
    return {name: str(sentence[name]) for name, value in metrics.items() if value is None}
