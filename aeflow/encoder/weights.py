"""Pretrained weights: fetched, checked, and kept as safetensors."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aeflow.core.errors import DataError
from aeflow.core.tensors import save_tensors
from aeflow.core.types import IMAGENET_MEAN, IMAGENET_SD
from aeflow.data.fetch import fetch_file, only_process
from aeflow.encoder.encoder import create_backbone, library_of
from aeflow.study.cards import ENCODER_CARDS, EncoderCard, load_encoder_card

logger = logging.getLogger(__name__)


def fetch_weights(name: str, out: Path, mirror: str | None) -> dict[str, Any]:
    """Write an encoder's weights to `out`; return library, architecture, mean and sd.

    An encoder with a card in config/encoders/ comes from the mirror or the card's source and must
    have the card's checksum. Any other timm or torchvision backbone comes from where its library
    gets it.

    Raises:
        ConfigError: there is no such encoder.
        DataError: the weights could not be had, or do not fit the architecture.
    """
    if (ENCODER_CARDS / f"{name}.yaml").is_file():
        card = load_encoder_card(name)
        library, architecture = library_of(card.architecture, [card.library]), card.architecture
        model = create_backbone(library, architecture)
        original = out.with_name(f".original-{card.weights.name}")
        with only_process(out):  # another would read or remove the same original
            try:
                fetch_file(card.weights, original, mirror)
                _fill(model, _read_tensors(original, card), card)
            finally:
                original.unlink(missing_ok=True)
        mean, sd = card.mean, card.sd
    else:
        library, architecture = library_of(name), name
        model = _pretrained(library, name)
        config = getattr(model, "pretrained_cfg", {})
        mean, sd = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_SD)
    facts = {"library": library, "architecture": architecture, "mean": list(mean), "sd": list(sd)}
    described = {key: v if isinstance(v, str) else json.dumps(v) for key, v in facts.items()}
    save_tensors(out, model.state_dict(), described)
    return facts


def _pretrained(library: str, name: str) -> Any:
    logger.info("%s has no card: asking %s for its default weights", name, library)
    try:
        return create_backbone(library, name, pretrained=True)
    except Exception as error:  # the hubs raise whatever their HTTP clients raise
        told = re.sub(r"\?[^\s'\"]*=\S*", "?...", str(error))  # a hub leads to signed addresses
        raise DataError(
            f"{library} could not get the weights of {name} ({type(error).__name__}: {told}). "
            f"With a file of your own, write a card {ENCODER_CARDS}/{name}.yaml whose "
            "weights.urls names it."
        ) from None


def _read_tensors(path: Path, card: EncoderCard) -> dict[str, Tensor]:
    """Read a state dict: safetensors, or a pickle of which torch builds tensors only.

    With `weights_only`, torch refuses whatever else a pickle asks for: no code can run.
    """
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a damaged pickle leads to
        logger.info("%s", error)
        tensors = None
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, Tensor) for tensor in tensors.values()
    ):
        raise DataError(
            f"{card.weights.name} holds no plain state dict: give the card {card.name} a file of "
            "names and tensors and nothing else (.safetensors, or .pth saved from `state_dict()`)."
        )
    return tensors


def _fill(model: nn.Module, tensors: dict[str, Tensor], card: EncoderCard) -> None:
    """Load tensors by name, or by order where a file has names of its own."""
    state = model.state_dict()
    if tensors.keys() != state.keys() and len(tensors) == len(state):
        tensors = dict(zip(state, tensors.values(), strict=True))
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    if shapes != {name: tensor.shape for name, tensor in state.items()}:
        raise DataError(
            f"{card.weights.name} does not fit {card.library}'s {card.architecture}: the card "
            "names another architecture or another file."
        )
    model.load_state_dict(tensors)
