"""Checkpoints: only the file that its receipt names, fitted as configured now, is loaded."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from aeflow.core.errors import CheckpointError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.receipts import differences, read_receipt
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
    """Return a fitted method, ready to score.

    Args:
        asked: the method and its settings.
        images: (N, H, W, 3), the prepared array.
        index: of them.
        features: the cache.
        weights: of the encoder.
        model: the checkpoint.
        trained: its receipt.

    Raises:
        CheckpointError: the checkpoint was changed, or belongs to another configuration.
        DataError: another file is missing or damaged.
    """
    check_checkpoint(model, trained, asked, index)
    device = set_up(asked.settings.training, peer=asked.method.peer)
    learner = build(asked.method, asked.settings, images, device, features, weights)
    load_checkpoint(learner.module, model)
    return learner


def check_checkpoint(path: Path, trained: Path, asked: ScoreAsked, index: Path) -> None:
    """Compare a checkpoint with its receipt, and that with what is asked for.

    Raises:
        CheckpointError: they differ, or a file is missing.
    """
    try:
        receipt = read_receipt(trained)
    except DataError as error:
        raise CheckpointError(f"{error} It describes {path} (train_model makes both).") from error
    wanted = asked.model_dump(mode="json", include={"method", "settings"})
    found = {key: receipt.settings.get(key) for key in wanted}
    found["index_sha256"] = receipt.origin.get(index.as_posix())
    wanted["index_sha256"] = sha256_file(index)
    if different := list(differences(found, wanted)):
        raise CheckpointError(
            f"{path} was made from something else than configured now, as {trained} says "
            f"({'; '.join(different)}): run train_model again."
        )
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: pull it or run train_model again.")
    if sha256_file(path) != receipt.made.get(path.as_posix()):
        raise CheckpointError(
            f"{path} is not the file that {trained} describes (another SHA-256): restore it or "
            "run train_model again."
        )


def load_checkpoint(module: nn.Module, path: Path) -> None:
    """Load a checkpoint into `module`, which is then in eval mode.

    Raises:
        CheckpointError: the tensors are others than the module's.
    """
    try:
        module.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} does not fit the configured model ({error}): run train_model again."
        ) from error
    module.eval()
