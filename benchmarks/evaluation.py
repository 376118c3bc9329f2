"""Evaluation: metrics, intervals and a sweep of beta from a score table, without torch."""

import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics

from aeflow.core.types import Method
from aeflow.judging.evaluation import judge_table
from aeflow.study.asked import JudgeAsked, VariantAsked
from aeflow.study.settings import EvaluationSettings, ScoreSettings, ThresholdSettings
from benchmarks.comparison import Measurement, compare
from benchmarks.quantities import Action

BETAS = [step / 10 for step in range(11)]
# Chest X-ray: split, label, images.
PARTS = (("validation", 0, 202), ("validation", 1, 400), ("test", 0, 234), ("test", 1, 390))
IMPORT = "import sys, aeflow.judging.evaluation; sys.exit('torch' in sys.modules)"


def measure(quick: bool) -> list[Measurement]:
    """Measure `judge_table` against scikit-learn in a loop, and what an import costs."""
    replicates, repeats = (10, 1) if quick else (1000, 3)
    table = score_table()
    tests = sum(count for split, _, count in PARTS if split == "test")
    name = f"{tests} test images, {replicates} bootstrap replicates"
    ours = partial(evaluate, table, replicates)
    return [
        compare(
            f"evaluation, {name}",
            partial(ours, [0.9]),
            partial(evaluate_in_a_loop, table, replicates),
            repeats=repeats,
        ),
        compare(f"{len(BETAS)} values of beta, {name}", partial(ours, BETAS), repeats=repeats),
        compare(
            "import of aeflow.judging.evaluation (reference: of torch)",
            partial(import_anew, IMPORT),
            partial(import_anew, "import torch"),
            repeats=repeats,
        ),
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


def evaluate(table: pd.DataFrame, replicates: int, betas: list[float]) -> Action:
    """Return ours: all metrics of a variant for each beta, with their intervals."""
    variants = {
        str(beta): VariantAsked(
            method=Method.AEFLOW,
            encoder=None,
            score=ScoreSettings(beta=beta, scaling="standardised"),
            threshold=ThresholdSettings(),
        )
        for beta in betas
    }
    evaluation = EvaluationSettings(bootstrap_replicates=replicates)
    asked = JudgeAsked(variants=variants, evaluation=evaluation)
    return lambda: judge_table(table, {}, asked, n_train=0, trainings=[])


def evaluate_in_a_loop(table: pd.DataFrame, replicates: int) -> Action:
    """Return the reference: scikit-learn's functions on every replicate."""
    test = table[table["split"] == "test"]
    gt_label = test["gt_label"].to_numpy()
    scores = 0.9 * test["density"].to_numpy() + 0.1 * test["ssim"].to_numpy()
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


def import_anew(statement: str) -> Action:
    """Return a run of a statement in a new interpreter; it fails unless that ends with 0."""
    return lambda: subprocess.run([sys.executable, "-c", statement], check=True)
