"""Evaluation: metrics and intervals of the variants that read one score table."""

from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics

from aeflow.core.types import Method
from aeflow.judging.evaluation import judge_table
from aeflow.study.asked import JudgeAsked, VariantAsked
from aeflow.study.settings import EvaluationSettings, ScoreSettings, ThresholdSettings
from benchmarks.measure import Action, Measurement, compare

# Chest X-ray: split, label, images.
PARTS = (("validation", 0, 202), ("validation", 1, 400), ("test", 0, 234), ("test", 1, 390))


def measure(quick: bool) -> list[Measurement]:
    """Measure `judge_table` against scikit-learn in a loop, and for many variants."""
    replicates, repeats = (10, 1) if quick else (1000, 3)
    table = score_table()
    name = f"624 test images, {replicates} bootstrap replicates"
    one, eleven = partial(judge, table, replicates, 1), partial(judge, table, replicates, 11)
    plain = partial(judge_in_a_loop, table, replicates)
    return [
        compare(f"evaluation, {name}", one, plain, repeats=repeats),
        compare(f"11 variants of one score table, {name}", eleven, repeats=repeats),
    ]


def score_table() -> pd.DataFrame:
    """Return a score table; anomalous images score one sd higher."""
    rows = [(split, label) for split, label, count in PARTS for _ in range(count)]
    table = pd.DataFrame(rows, columns=["split", "gt_label"])
    table["image_id"] = [str(row) for row in range(len(table))]
    table["defect"] = np.where(table["gt_label"] == 1, "pneumonia", "normal")
    generator = np.random.default_rng(0)
    for name in ("density", "latent_energy", "nll", "ssim", "mse"):
        table[name] = generator.normal(size=len(table)) + table["gt_label"]
    return table


def judge(table: pd.DataFrame, replicates: int, variants: int) -> Action:
    """Return ours: all metrics with their intervals, for so many values of beta from 0.9 down."""
    judged = {
        str(step): VariantAsked(
            method=Method.AEFLOW,
            encoder=None,
            map=None,
            score=ScoreSettings(beta=0.9 * (1 - step / 10)),
            threshold=ThresholdSettings(),
        )
        for step in range(variants)
    }
    evaluation = EvaluationSettings(bootstrap_replicates=replicates)
    asked = JudgeAsked(variants=judged, evaluation=evaluation)
    return lambda: judge_table(table, {}, asked, n_train=0, trainings=[])


def judge_in_a_loop(table: pd.DataFrame, replicates: int) -> Action:
    """Return the reference: scikit-learn's functions on every replicate."""
    test = table[table["split"] == "test"]
    gt_label = test["gt_label"].to_numpy()
    scores = (0.9 * test["density"] + 0.1 * test["ssim"]).to_numpy()
    groups = [np.flatnonzero(gt_label == label) for label in (0, 1)]

    def action() -> None:
        generator = np.random.default_rng(0)
        values = []
        for _ in range(replicates):
            rows = np.concatenate([generator.choice(rows, len(rows)) for rows in groups])
            values.append(_metrics(gt_label[rows], scores[rows]))
        np.quantile(values, [0.025, 0.975], axis=0)

    return action


def _metrics(gt_label: NDArray[np.int64], scores: NDArray[np.float64]) -> list[float]:
    precision, recall, _ = metrics.precision_recall_curve(gt_label, scores)
    called = scores >= 0.5
    return [
        metrics.roc_auc_score(gt_label, scores),
        metrics.average_precision_score(gt_label, scores),
        (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max(),
        metrics.f1_score(gt_label, called),
        metrics.accuracy_score(gt_label, called),
        metrics.recall_score(gt_label, called),
        metrics.recall_score(gt_label, called, pos_label=0),
    ]
