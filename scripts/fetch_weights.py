"""Fetch the pretrained weights of an encoder (aeflow.encoder.weights)."""

import os
from pathlib import Path
from typing import Any

from aeflow.study.asked import WeightsAsked
from aeflow.study.job import job


def fetch_weights(asked: WeightsAsked, weights: Path) -> dict[str, Any]:
    """Write the weights; return library, architecture, mean and sd."""
    from aeflow.encoder import weights as pretrained

    return pretrained.fetch_weights(asked.encoder, weights, os.environ.get("AEFLOW_MIRROR"))


if __name__ == "__main__":
    job(fetch_weights)
