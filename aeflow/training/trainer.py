"""Training: Adam on the normals, resumable to the byte."""

import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from aeflow.core.errors import TrainingError
from aeflow.encoder.features import FeatureSource
from aeflow.models.aeflow import AEFlow, AEFlowOutput
from aeflow.models.losses import flow_nll, reconstruction_loss, total_loss
from aeflow.study.settings import FitSettings
from aeflow.training.devices import autocast
from aeflow.training.state import Progress, load_state, save_state

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        tensors: the state dict of the epoch that was kept.
        history: one row per epoch.
        best_epoch: the epoch that was kept, from 1.
        fit_seconds: wall time, summed over interrupted runs.
    """

    tensors: dict[str, Tensor]
    history: list[dict[str, float]]
    best_epoch: int
    fit_seconds: float


class Trainer:
    """Trains one model on the rows of a feature source.

    Killed at any moment, it continues from the state that it left in `state_path`, and ends with
    the same bytes as an undisturbed run: the order of the images follows from seed and epoch
    alone. SIGTERM and SIGINT save the state after the current step, in the middle of an epoch too.
    """

    def __init__(
        self,
        model: AEFlow,
        source: FeatureSource,
        settings: FitSettings,
        seed: int,
        state_path: Path,
        fingerprint: str,
    ) -> None:
        self.model, self.source, self.settings, self.seed = model, source, settings, seed
        self._state_path, self._fingerprint = state_path, fingerprint
        training = settings.training
        self._forward: nn.Module = torch.compile(model) if training.compile else model  # type: ignore[assignment]
        self.optimizer = torch.optim.Adam(
            model.parameters(),
            lr=training.lr,
            betas=(training.beta1, 0.999),
            weight_decay=training.weight_decay,
        )
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}

    def fit(self, train: NDArray[np.int64], validation: NDArray[np.int64]) -> Trained:
        """Train on the rows `train`; the rows `validation`, normals too, choose the epoch.

        Raises:
            TrainingError: the loss is not finite, or there is nothing to train on.
        """
        if not len(train) or not len(validation):
            raise TrainingError(
                f"There are {len(train)} training and {len(validation)} validation normals: "
                "both are needed; check data.val_fraction and the dataset's card."
            )
        if not self._resume():
            self._standardise(train)
        started = time.monotonic() - self.progress.seconds
        epochs = range(self.progress.epoch, self.settings.training.epochs + 1)
        bar = tqdm(epochs, "training", disable=None, unit="epoch")
        with _stop_signals() as received:
            for epoch in bar:
                self._train_epoch(epoch, train, received, started)
                row = self._finish_epoch(epoch, len(train), validation)
                bar.set_postfix(train=f"{row['train_loss']:.4f}", val=f"{row['val_loss']:.4f}")
                self._save(started)
        return Trained(
            self.best,
            self.progress.history,
            self.progress.best_epoch,
            time.monotonic() - started,
        )

    def _resume(self) -> bool:
        state = load_state(self._state_path, self._fingerprint, self.model, self.optimizer)
        if state is None:
            return False
        self.progress, self.best = state
        logger.info(
            "resuming in epoch %d after %d images", self.progress.epoch, self.progress.images
        )
        return True

    @torch.no_grad()
    def _standardise(self, train: NDArray[np.int64]) -> None:
        flow = self.model.flow
        if flow is None or flow.standardisation is None:
            return
        batches = (self.source.features(rows) for rows in self._batches(train))
        flow.standardisation.fit(batches)

    def _batches(self, rows: NDArray[np.int64], start: int = 0) -> Iterator[NDArray[np.int64]]:
        size = self.settings.training.batch_size
        for first in range(start, len(rows), size):
            yield rows[first : first + size]

    def _save(self, started: float) -> None:
        self.progress.seconds = time.monotonic() - started
        save_state(
            self._state_path,
            self._fingerprint,
            self.progress,
            self.model,
            self.optimizer,
            self.best,
        )

    def _train_epoch(
        self, epoch: int, train: NDArray[np.int64], received: list[int], started: float
    ) -> None:
        self.model.train()
        order = np.random.default_rng((self.seed, epoch)).permutation(train)
        for batch in self._batches(order, start=self.progress.images):
            self._set_lr(epoch - 1 + self.progress.images / len(train))
            self.train_step(np.sort(batch))  # one sweep over the files
            if received:
                self._save(started)
                logger.info("stopped by signal %d, state saved", received[0])
                raise SystemExit(128 + received[0])

    def train_step(self, rows: NDArray[np.int64]) -> None:
        """Train on one batch and count it in `progress`.

        Raises:
            TrainingError: the loss is not finite.
        """
        epoch, images = self.progress.epoch, self.progress.images
        # A fine-tuned encoder may draw random numbers (dropout): a resumed run, the same ones.
        torch.manual_seed(_seed_of_step(self.seed, epoch, images))
        loss, parts = self._losses(rows)
        step = images // self.settings.training.batch_size + 1
        _check_finite(parts, f"in epoch {epoch}, step {step}")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if (limit := self.settings.training.gradient_clip) is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.optimizer.step()
        _add(self.progress.sums, parts, len(rows))
        self.progress.images += len(rows)

    def _finish_epoch(
        self, epoch: int, n_train: int, validation: NDArray[np.int64]
    ) -> dict[str, float]:
        progress = self.progress
        val_means = self._validate(validation)
        _check_finite(val_means, f"of the validation normals after epoch {epoch}")
        row = {f"train_{part}": total / n_train for part, total in progress.sums.items()}
        row |= {f"val_{part}": mean for part, mean in val_means.items()}
        progress.history.append({"epoch": epoch, **row})
        last = self.settings.training.epoch_rule == "last"
        if last or row["val_loss"] < progress.best_loss:
            progress.best_epoch, progress.best_loss = epoch, row["val_loss"]
            self.best = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.model.state_dict().items()
            }
        progress.epoch, progress.images, progress.sums = epoch + 1, 0, {}
        logger.info("epoch %d %s", epoch, " ".join(f"{k} {v:.5f}" for k, v in row.items()))
        return row

    @torch.no_grad()
    def _validate(self, rows: NDArray[np.int64]) -> dict[str, float]:
        self.model.eval()
        sums: dict[str, float] = {}
        for batch in self._batches(rows):
            _add(sums, self._losses(batch)[1], len(batch))
        return {part: total / len(rows) for part, total in sums.items()}

    def _losses(self, rows: NDArray[np.int64]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch, and as numbers the loss and those of its parts there are."""
        images = None if self.model.decoder is None else self.source.images(rows)
        with autocast(self.settings.training, self.source.device):
            out: AEFlowOutput = self._forward(self.source.features(rows, images))
        parts: dict[str, Tensor] = {}
        if self.model.flow is not None:
            nll = flow_nll(out.z, out.log_det, self.settings.loss.flow_scale)
            parts["flow_nll"] = nll.mean()
        if self.model.decoder is not None and images is not None:
            assert out.reconstruction is not None
            target = self.model.decoder.target(images)
            parts["reconstruction"] = reconstruction_loss(target, out.reconstruction).mean()
        loss = total_loss(
            parts.get("flow_nll"), parts.get("reconstruction"), self.settings.loss.alpha
        )
        numbers = torch.stack((loss, *parts.values())).tolist()  # one transfer from the device
        return loss, dict(zip(("loss", *parts), numbers, strict=True))

    def _set_lr(self, epochs_done: float) -> None:
        """Set the learning rate from the position alone, so that a resumed run has the same."""
        training = self.settings.training
        share = 0.0 if training.lr_schedule == "constant" else epochs_done / training.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = training.lr * (1 + math.cos(math.pi * share)) / 2


def _seed_of_step(*position: int) -> int:
    return int(np.random.SeedSequence(position).generate_state(1)[0])


def _add(sums: dict[str, float], parts: dict[str, float], images: int) -> None:
    """Add a batch's mean losses to the sums over images."""
    for part, mean in parts.items():
        sums[part] = sums.get(part, 0.0) + mean * images


def _check_finite(parts: dict[str, float], where: str) -> None:
    """Raise a TrainingError if the loss or a part of it is not finite."""
    if not all(math.isfinite(part) for part in parts.values()):
        listed = ", ".join(f"{name} {value}" for name, value in parts.items() if name != "loss")
        raise TrainingError(
            f"The loss is {parts['loss']} {where} ({listed}): lower training.lr or set "
            "training.gradient_clip."
        )


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them."""
    received: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)

    previous = {
        number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
