"""The state of a training that is not finished: one file, replaced after every epoch.

It lies in a scratch folder, since Snakemake deletes a rule's outputs before each attempt.
"""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aeflow.core.errors import DataError
from aeflow.core.tensors import read_facts, save_tensors

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a training stands. Everything else of its state is tensors.

    Attributes:
        epoch: the epoch that is being trained, from 1.
        images: images of this epoch that were trained on.
        sums: sums over them of the total loss and of its parts, by name.
        history: a row per finished epoch.
        best_epoch, best_loss: the epoch kept so far and its validation loss.
        seconds: time spent in earlier runs.
    """

    epoch: int = 1
    images: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = float("inf")
    seconds: float = 0.0


def save_state(
    path: Path,
    fingerprint: str,
    progress: Progress,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> None:
    """Write the state atomically.

    Raises:
        DataError: the file cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    described = {"fingerprint": fingerprint, "progress": json.dumps(asdict(progress))}
    save_tensors(path, tensors, described)


def load_state(
    path: Path, fingerprint: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor]] | None:
    """Restore model and optimizer; return progress and the best epoch's tensors.

    Returns None, and changes nothing, where there is no state, it is damaged, or it belongs to
    another training.
    """
    if not path.exists():
        return None
    try:
        described = read_facts(path)
    except DataError as error:
        logger.warning("training starts anew: %s", error)
        return None
    if described.get("fingerprint") != fingerprint:
        logger.info("training starts anew: %s is the state of another training", path)
        return None
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, tensor in load_file(path).items():
        part, key = name.split(".", 1)
        parts[part][key] = tensor
    model.load_state_dict(parts["model"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, key = name.split(".")
        moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return Progress(**json.loads(described["progress"])), parts["best"]
