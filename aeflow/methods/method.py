"""What a peer is, and the passes over the training images that two of them need."""

import logging
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from aeflow.core.errors import TrainingError
from aeflow.study.settings import TrainingSettings

logger = logging.getLogger(__name__)
Rows = NDArray[np.int64]


class Scored(NamedTuple):
    """What a peer says of a batch; higher is more anomalous.

    Attributes:
        pred_score: (B,), raw: neither clamped nor scaled to [0, 1].
        anomaly_map: (B, H, W) at the size of the prepared images; None if the method has none.
    """

    pred_score: Tensor
    anomaly_map: Tensor | None


@dataclass
class Fitted:
    """How a peer was fitted.

    Attributes:
        parameters: numbers that the fitted model holds.
        best_epoch: the epoch that was kept, from 1; None where there are no epochs.
        history: epoch, train_loss and val_loss of every epoch.
    """

    parameters: int
    best_epoch: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)


class Peer(Protocol):
    """A method of anomalib behind our features or images."""

    def fit(self, train: Rows, validation: Rows, seed: int) -> Fitted:
        """Fit on the rows `train`; the rows `validation`, normals too, choose the epoch."""
        ...

    def score(self, rows: Rows) -> Scored:
        """Score the images of `rows`."""
        ...


def batches(rows: Rows, size: int) -> Iterator[Rows]:
    """Return the rows in batches of at most `size`."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def fit_epochs(
    kept: nn.Module,
    train_step: Callable[[Rows], float],
    loss: Callable[[Rows], float],
    training: TrainingSettings,
    seed: int,
    train: Rows,
    validation: Rows,
) -> Fitted:
    """Train for `training.epochs`, and leave in `kept` the epoch of `training.epoch_rule`.

    The order of the images is that of our own trainings with this seed.

    Args:
        kept: what a scoring needs of the model.
        train_step: trains on a batch and returns its mean loss.
        loss: returns the mean loss of a batch.
        training: epochs, batch_size and epoch_rule count.
        seed: of the order.
        train: rows of the training normals.
        validation: rows of the validation normals.

    Raises:
        TrainingError: a loss is not finite.
    """
    best, best_loss, best_epoch = deepcopy(kept.state_dict()), math.inf, 0
    history: list[dict[str, float]] = []
    for epoch in tqdm(range(1, training.epochs + 1), "training", disable=None, unit="epoch"):
        order = np.random.default_rng((seed, epoch)).permutation(train)
        kept.train()
        row = {"train_loss": _mean(lambda batch: train_step(np.sort(batch)), order, training)}
        kept.eval()
        with torch.no_grad():
            row["val_loss"] = _mean(loss, validation, training)
        if not math.isfinite(row["train_loss"] + row["val_loss"]):
            raise TrainingError(
                f"The loss of epoch {epoch} is {row['train_loss']} in training and "
                f"{row['val_loss']} in validation: use another seed or fewer training.epochs."
            )
        logger.info("epoch %d %s", epoch, " ".join(f"{k} {v:.5f}" for k, v in row.items()))
        history.append({"epoch": epoch, **row})
        if training.epoch_rule == "last" or row["val_loss"] < best_loss:
            best, best_loss, best_epoch = deepcopy(kept.state_dict()), row["val_loss"], epoch
    kept.load_state_dict(best)
    parameters = sum(parameter.numel() for parameter in kept.parameters())
    return Fitted(parameters, best_epoch, history)


def _mean(loss: Callable[[Rows], float], rows: Rows, training: TrainingSettings) -> float:
    parts = [loss(batch) * len(batch) for batch in batches(rows, training.batch_size)]
    return sum(parts) / len(rows)
