"""Checkpoints: only the file that its receipt names, fitted as configured now, is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aeflow.core.errors import CheckpointError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.receipts import Receipt, check_made, differences
from aeflow.methods.method import Learner, build
from aeflow.study.asked import ScoreAsked
from aeflow.training.devices import set_up


def load_learner(
    asked: ScoreAsked,
    images: NDArray[Any],
    index: Path,
    features: Path,
    weights: Path,
    model: Path,
    trained: Path,
) -> Learner:
    """Return what was fitted, ready to score `images`.

    Raises:
        CheckpointError: the checkpoint is missing, was changed, or belongs to other settings or
            images.
    """
    receipt = check_checkpoint(asked, model, trained)
    known, there = receipt.origin.get(index.as_posix()), sha256_file(index)
    if known != there:
        raise CheckpointError(
            f"{model} was trained on other images, as {trained} says ({index} had the SHA-256 "
            f"{known}, and has {there}): run train_model again."
        )
    device = set_up(asked.settings.training, peer=asked.method.peer)
    learner = build(asked.method, asked.settings, images, device, features, weights)
    try:
        restore(learner, load_file(model), asked)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{model} does not fit the configured model ({error}): run train_model again."
        ) from error
    return learner


def restore(learner: Learner, tensors: Mapping[str, Tensor], asked: ScoreAsked) -> None:
    """Put into a learner what was fitted, ready to score; RuntimeError: it does not fit."""
    learner.module.load_state_dict(tensors)
    learner.module.eval()
    learner.top_shares, learner.maps = asked.top_shares, asked.maps


def check_checkpoint(asked: ScoreAsked, model: Path, trained: Path) -> Receipt:
    """Return the receipt of a checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing, was changed, or belongs to other settings.
    """
    try:
        receipt = check_made(model, trained)
    except DataError as error:
        raise CheckpointError(f"The checkpoint cannot be used: {error}") from error
    wanted = asked.model_dump(mode="json", include={"method", "settings"})
    found = {key: receipt.settings.get(key) for key in wanted}
    if different := "; ".join(differences(found, wanted)):
        raise CheckpointError(
            f"{model} was made from something else than configured now, as {trained} says "
            f"({different}): run train_model again."
        )
    return receipt
