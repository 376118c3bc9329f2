"""Run the frozen encoder once over a dataset's category (aeflow.encoder.features)."""

from pathlib import Path
from typing import Any

from aeflow.study.asked import FeaturesAsked
from aeflow.study.job import job
from aeflow.study.settings import TrainingSettings


def extract_features(
    asked: FeaturesAsked, images: Path, weights: Path, features: Path
) -> dict[str, Any]:
    """Write the cache; return whether it holds features, their shape and the number of images."""
    import torch

    from aeflow.data.prepared import open_array
    from aeflow.encoder import features as cache
    from aeflow.encoder.encoder import load_encoder
    from aeflow.training.devices import set_up

    device = set_up(TrainingSettings(threads=asked.threads))
    encoder = load_encoder(weights, asked.stages).to(device).to(memory_format=torch.channels_last)
    limit = asked.max_cache_gib
    return cache.extract_features(open_array(images), encoder, device, limit, features)


if __name__ == "__main__":
    job(extract_features)
