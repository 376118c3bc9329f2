"""Puts together what a training and a scoring need: images, features, model."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.data.prepared import Prepared, open_array
from aeflow.encoder.encoder import load_encoder
from aeflow.encoder.features import FeatureSource
from aeflow.models.aeflow import AEFlow
from aeflow.study.settings import FitSettings


def assemble(
    prepared: Prepared,
    settings: FitSettings,
    method: Method,
    device: torch.device,
    features: Path,
    weights: Path,
) -> tuple[FeatureSource, AEFlow]:
    """Return the source of the features and a fresh model, both on `device`.

    The cache is read unless it is empty (too large for the configured limit) or the encoder is
    fine-tuned; the encoder is built only in those cases.

    Args:
        prepared: the images.
        settings: of the cell.
        method: a trained one; it says which parts the model has.
        device: where to compute.
        features: the cache.
        weights: of the encoder.

    Raises:
        DataError: the cache does not belong to the images.
    """
    finetune = settings.encoder.finetune
    cache: Any = open_array(features)
    if len(cache) and not finetune:
        if len(cache) != len(prepared.images):
            raise DataError(
                f"{features} holds {len(cache)} images, the prepared array "
                f"{len(prepared.images)}: run extract_features again."
            )
        source = FeatureSource(prepared.images, device, cache=cache.view(np.float16))
        encoder = None
    else:
        encoder = load_encoder(weights, settings.encoder.stage, finetune)
        encoder = encoder.to(device).to(memory_format=torch.channels_last)
        source = FeatureSource(prepared.images, device, encoder=encoder)
    model = AEFlow(
        source.channels,
        source.side,
        source.stride,
        settings.flow if method.has_flow else None,
        settings.decoder if method.has_decoder else None,
        encoder if finetune else None,
    )
    return source, model.to(device).to(memory_format=torch.channels_last)
