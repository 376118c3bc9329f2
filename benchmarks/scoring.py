"""The scoring pass: every score component of every test image."""

from functools import partial

import numpy as np
import pandas as pd
import torch

from aeflow.data.prepared import Prepared
from aeflow.encoder.features import FeatureSource
from aeflow.scoring.score_images import score_images
from aeflow.study.settings import EvaluationSettings, TrainingSettings
from aeflow.training.devices import set_up
from benchmarks.comparison import Measurement, compare, threads
from benchmarks.quantities import Action
from benchmarks.scales import Scale, scales
from benchmarks.training import build_detector, cached_source


def measure(quick: bool) -> list[Measurement]:
    """Measure `score_images` on cached features against the same with the encoder's forward."""
    return [
        compare(
            f"scoring, {scale.name}",
            partial(score_features, scale),
            partial(score_with_encoder, scale),
            repeats=1 if quick else 3,
            images=2 * scale.batch,
            arithmetic=True,
        )
        for scale in scales(quick)
    ]


def score_features(scale: Scale) -> Action:
    """Return ours."""
    return _score(scale, cached_source(scale, 2 * scale.batch))


def score_with_encoder(scale: Scale) -> Action:
    """Return the reference: features are computed again."""
    device = set_up(TrainingSettings(threads=threads(), device="cpu"))
    encoder = scale.encoder().to(memory_format=torch.channels_last)
    return _score(scale, FeatureSource(scale.images(2 * scale.batch), device, encoder=encoder))


def _score(scale: Scale, source: FeatureSource) -> Action:
    count = 2 * scale.batch
    index = pd.DataFrame(
        {
            "image_id": [str(number) for number in range(count)],
            "split": "test",
            "gt_label": np.arange(count) % 2,
            "defect": "none",
            "mask_row": pd.NA,
        }
    )
    no_masks = np.empty((0, scale.image_side, scale.image_side), np.uint8)
    prepared = Prepared(scale.images(count), no_masks, index)
    detector = build_detector(source)
    detector.module.eval()
    return lambda: score_images(prepared, detector, EvaluationSettings().fpr_limit)
