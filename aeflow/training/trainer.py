"""Training: every method's only loop over epochs, resumable to the byte."""

import logging
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aeflow.core.errors import TrainingError
from aeflow.methods.method import Learner, Rows, batches
from aeflow.study.settings import TrainingSettings
from aeflow.training.adam import Adam
from aeflow.training.state import Progress, State

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    tensors: dict[str, Tensor]  # of the epoch that was kept, or of the fit in closed form
    history: list[dict[str, float]]  # one row per epoch
    best_epoch: int | None  # the one kept; 0: what was fitted before any; None: there are none
    n_train: int  # training normals that were used
    fit_seconds: float  # wall time, summed over interrupted runs


class Trainer:
    """Fits one method.

    Killed at any moment, it continues after the last finished epoch, and ends with the same bytes
    as an undisturbed run: the order of the images follows from seed and epoch alone.
    """

    def __init__(
        self, learner: Learner, training: TrainingSettings, seed: int, state: State
    ) -> None:
        self.learner, self._training, self._seed, self._state = learner, training, seed, state
        self._adams = [Adam(update) for update in learner.updates]

    def fit(self, train: Rows, validation: Rows) -> Trained:
        """Fit to the rows `train`; the rows `validation`, normals too, choose the epoch.

        Raises:
            TrainingError: a loss is not finite, or there is nothing to train on.
        """
        if not len(train) or not len(validation):
            raise TrainingError(
                f"There are {len(train)} training and {len(validation)} validation normals: "
                "both are needed; check data.val_fraction and the dataset's card."
            )
        train = self._drawn(train)
        if self._adams and len(train) < self._training.batch_size:
            logger.warning(
                "Fewer training normals (%d) than a batch (training.batch_size: %d), so an epoch "
                "is a single step: use more images, lower training.batch_size or raise "
                "training.epochs.",
                *(len(train), self._training.batch_size),
            )
        started = time.monotonic()
        progress = self._state.load(self.learner.module, self._adams)
        if progress is None:
            progress = Progress()
            self.learner.fit(train)
        else:
            logger.info("resuming in epoch %d", self._next(progress))
        started -= progress.seconds
        epochs = range(self._next(progress), self._training.epochs + 1)
        bar = tqdm(epochs if self._adams else [], "training", disable=None, unit="epoch")
        for epoch in bar:
            row = self._train_epoch(epoch, train) | self._validate(epoch, validation)
            bar.set_postfix({name: f"{row[name]:.4f}" for name in row if name.endswith("_loss")})
            told = " ".join(f"{name} {value:.5f}" for name, value in row.items())
            logger.info("epoch %d of %d %s", epoch, self._training.epochs, told)
            progress.history.append({"epoch": epoch, **row})
            if self._training.epoch_rule == "last" or row["val_loss"] < progress.best_loss:
                progress.best_epoch, progress.best_loss = epoch, row["val_loss"]
                progress.best = self._tensors()
            progress.seconds = time.monotonic() - started
            self._state.save(progress, self.learner.module, self._adams)
        if progress.best:
            self.learner.module.load_state_dict(progress.best)
        self.learner.module.eval()
        self.learner.complete(train, validation)
        seconds = time.monotonic() - started
        kept = progress.best_epoch
        return Trained(self._tensors(), progress.history, kept, len(train), seconds)

    def _next(self, progress: Progress) -> int:
        return self.learner.first_epoch + len(progress.history)

    def _drawn(self, train: Rows) -> Rows:
        """Return the rows to train on: of few a part of those of many, for the same seed."""
        most = self._training.max_normals
        if most is None or most >= len(train):
            return train
        drawn: Rows = np.random.default_rng(self._seed).permutation(train)[:most]
        return np.sort(drawn)

    def _tensors(self) -> dict[str, Tensor]:
        state = self.learner.module.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def _train_epoch(self, epoch: int, train: Rows) -> dict[str, float]:
        """Train on every image once; return mean losses of what the updates found.

        Epoch 0 trains nothing, so it has none.
        """
        if not epoch:
            return {}
        self.learner.module.train()
        order = np.random.default_rng((self._seed, epoch)).permutation(train)
        sums: dict[str, float] = {}
        done = 0
        for step, batch in enumerate(batches(order, self._training.batch_size), start=1):
            # A fine-tuned encoder may draw random numbers (dropout): a resumed run, the same ones.
            position = np.random.SeedSequence((self._seed, epoch, done))
            torch.manual_seed(int(position.generate_state(1)[0]))
            share = (epoch - 1 + done / len(train)) / self._training.epochs
            rows = np.sort(batch)  # one sweep over the files
            _add(sums, self.train_step(rows, share, f"in epoch {epoch}, step {step}"), len(batch))
            done += len(batch)
        return {f"train_{part}": total / len(train) for part, total in sums.items()}

    def train_step(self, rows: Rows, share: float, where: str) -> dict[str, float]:
        """Update all parameters once; return the mean losses that the first update is for.

        Args:
            share: how much of the training is done.
            where: words for an error.
        """
        found = []
        for adam, parts in zip(self._adams, self.learner.losses(rows), strict=True):
            found.append(_numbers(parts, where))
            adam.step(parts["loss"], share, retain_graph=adam is not self._adams[-1])
        return found[0]

    @torch.no_grad()
    def _validate(self, epoch: int, validation: Rows) -> dict[str, float]:
        self.learner.module.eval()
        sums: dict[str, float] = {}
        where = f"of the validation normals after epoch {epoch}"
        for batch in batches(validation, self._training.batch_size):
            _add(sums, _numbers(next(self.learner.losses(batch)), where), len(batch))
        return {f"val_{part}": total / len(validation) for part, total in sums.items()}


def _add(sums: dict[str, float], parts: dict[str, float], images: int) -> None:
    """Add a batch's mean losses to the sums over images."""
    for part, mean in parts.items():
        sums[part] = sums.get(part, 0.0) + mean * images


def _numbers(parts: dict[str, Tensor], where: str) -> dict[str, float]:
    """Return losses as numbers; raise a TrainingError if one of them is not finite."""
    values = torch.stack(tuple(parts.values())).tolist()  # one transfer from the device
    numbers = dict(zip(parts, values, strict=True))
    if not all(math.isfinite(value) for value in values):
        listed = ", ".join(f"{name} {value}" for name, value in numbers.items())
        raise TrainingError(
            f"The loss is not finite {where} ({listed}): lower training.lr or set "
            "training.gradient_clip; a peer's are fixed, use another seed. After epoch 0 nothing "
            "is trained yet: look at the images and their features."
        )
    return numbers
