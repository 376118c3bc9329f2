"""Runs as evaluate_scores writes them, small enough to check by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aeflow.core.types import Method
from aeflow.judging.evaluation import evaluate_scores
from aeflow.study.settings import EvaluationSettings, ScoreSettings, ThresholdSettings

Run = dict[str, Any]
COMPONENTS = ["density", "nll", "ssim", "mse"]


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """Return a function that makes the metrics of one run; keywords replace its values."""

    def make(**changes: Any) -> Run:
        run = {
            "study": "s",
            "dataset": "tiles",
            "category": "all",
            "variant": "aeflow",
            "method": "aeflow",
            "encoder": "tiny-stage3",
            "seed": 0,
            "image_auroc": 0.8,
            "image_aupr": 0.7,
            "f1": 0.6,
            "accuracy": 0.65,
            "sensitivity": 0.75,
            "specificity": 0.5,
            "threshold": 1.25,
            "threshold_rule": "f1_max",
            "oracle_f1": 0.9,
            "oracle_threshold": 1.0,
            "val_auroc": 0.85,
            "pixel_auroc": None,
            "aupro": None,
            "n_train": 100,
            "n_val_normal": 20,
            "n_val_anomalous": 10,
            "n_test_normal": 30,
            "n_test_anomalous": 40,
            "fit_seconds": 12.5,
            "peak_rss_mib": 900.0,
            "best_epoch": 7,
            "intervals": {"image_auroc": [0.75, 0.85]},
            "reasons": {"pixel_auroc": "There are no pixel masks."},
            "roc": {"fpr": [0.0, 0.5, 1.0], "tpr": [0.0, 0.75, 1.0]},
            "components": {"density": {"val_auroc": 0.8, "test_auroc": 0.7}},
            "per_defect": {"crack": {"n": 40, "image_auroc": 0.8}},
            "settings": {"score": ScoreSettings().model_dump(mode="json")},
        }
        return run | changes

    return make


@pytest.fixture
def scores() -> pd.DataFrame:
    """A score table of 120 images whose anomalies score higher."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "image_id": [f"tiles/{index:03d}" for index in range(120)],
            "split": ["validation"] * 50 + ["test"] * 70,
            "gt_label": [0] * 30 + [1] * 20 + [0] * 30 + [1] * 40,
        }
    )
    table["defect"] = np.where(table["gt_label"] == 1, "crack", "good")
    for column in COMPONENTS:
        table[column] = generator.normal(size=120) + 1.5 * table["gt_label"]
    return table


@pytest.fixture
def scored_run(make_run: Callable[..., Run], scores: pd.DataFrame) -> Run:
    """The metrics that the score table really has."""
    score = ScoreSettings(scaling="standardised")
    metrics = evaluate_scores(
        scores,
        {},
        method=Method.AEFLOW,
        score=score,
        threshold=ThresholdSettings(),
        evaluation=EvaluationSettings(bootstrap_replicates=50),
    )
    return make_run(**metrics, settings={"score": score.model_dump(mode="json")})


@pytest.fixture
def gallery(scores: pd.DataFrame) -> dict[str, Any]:
    """Images and maps of twelve test images, masks on the anomalous ones."""
    generator = np.random.default_rng(1)
    shown = scores.iloc[[*range(50, 56), *range(80, 86)]]
    anomalous = shown["gt_label"].to_numpy() == 1
    shape = (12, 32, 32)
    return {
        "image_id": shown["image_id"].to_numpy().astype(str),
        "gt_label": shown["gt_label"].to_numpy(),
        "defect": shown["defect"].to_numpy().astype(str),
        "pick": np.array(["every"] * 12),
        "image": generator.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "reconstruction": generator.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "difference": generator.random(shape).astype(np.float16),
        "flow_map": (5 * generator.random(shape)).astype(np.float16),
        "mask": (generator.random(shape) > 0.5).astype(np.uint8) * anomalous[:, None, None],
        "has_mask": anomalous,
    }
