"""What a method is. Each has a file of its own, of which only the one that runs is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aeflow.core.types import Method
from aeflow.study.settings import FitSettings

if TYPE_CHECKING:  # the gradient needs no torch
    import torch
    from torch import Tensor, nn

Rows = NDArray[np.int64]
Values = NDArray[np.float32]


class BatchScores(NamedTuple):
    """What a method makes of B images, by names; higher is more anomalous."""

    components: dict[str, NDArray[np.float64]]  # (B,), raw
    maps: dict[str, Values]  # (B, H, W) at the size of the prepared images
    coarse: dict[str, Values]  # (B, h, w), maps before they were enlarged: the gallery's
    reconstruction: Values | None  # (B, H, W, 3) in [0, 1]


def one_score(name: str, pred_score: Tensor, anomaly_map: Tensor | None = None) -> BatchScores:
    """Return one score, (B,), and its map, (B, H, W), under one name, as peers have them."""
    maps = {} if anomaly_map is None else {name: anomaly_map.cpu().numpy()}
    return BatchScores({name: pred_score.cpu().double().numpy()}, maps, {}, None)


class Scorer(Protocol):
    """What scores images, by their rows in the prepared array."""

    def score(self, rows: Rows) -> BatchScores:
        """Score the images of `rows`."""
        ...


class Update(NamedTuple):
    """Adam on some parameters, once per batch; names as of torch.optim.Adam."""

    parameters: Sequence[nn.Parameter]
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    cosine: bool = False  # from `lr` down to 0 at the last step, along half a cosine
    clip: float | None = None  # the gradient's norm to this


class Learner(Scorer, Protocol):
    """What is fitted to normals, then scores."""

    module: nn.Module  # all that a checkpoint holds
    updates: Sequence[Update] = ()  # by a batch, in turn; none: no epochs, `fit` is all
    first_epoch: int = 1  # 0: what `fit` alone gives is a candidate of the epoch rule
    top_shares: Sequence[float] = ()  # of positions, for scores that are a mean of the highest
    maps: Sequence[str] = ()  # which of several maps are wanted

    @property
    def parameters(self) -> int:
        """How many numbers are fitted."""
        held: list[Tensor] = [*self.module.parameters()] or [*self.module.buffers()]
        return sum(tensor.numel() for tensor in held if tensor.is_floating_point())

    def fit(self, train: Rows) -> None:
        """Fit what is fitted in closed form, before any epoch."""

    def complete(self, train: Rows, validation: Rows) -> None:
        """Fit what rests on the epoch that was kept, in closed form."""

    def losses(self, rows: Rows) -> Iterator[dict[str, Tensor]]:
        """Yield the mean losses of a batch for each of `updates`: `loss`, then its parts.

        What follows a yield may rest on the update. The first ones are the history's, and their
        `loss` on validation normals chooses the epoch. Without updates there are none.
        """
        return iter(())


def detector_of(method: Method) -> Callable[..., Any]:
    """Return the class `Detector` of a method's file; no other file is imported.

    One that is fitted takes what `build` hands it, any other the images.
    """
    module = import_module(".".join(method.file.with_suffix("").parts))
    detector: Callable[..., Any] = module.Detector
    return detector


def build(
    method: Method,
    settings: FitSettings,
    images: NDArray[np.uint8],
    device: torch.device,
    features: Path,
    weights: Path,
) -> Learner:
    """Build what fits and scores; DataError: the cache does not belong to the images."""
    from aeflow.encoder.features import open_features

    if not method.ours:
        # Peers take the encoder as it is: they have no loss to tune it by.
        encoder = settings.encoder.model_copy(update={"finetune": False})
        settings = settings.model_copy(update={"encoder": encoder})
    stages = settings.stages_of(method)
    source = open_features(images, settings, device, features, weights, stages)
    learner: Learner = detector_of(method)(source, settings, method)
    return learner


def batches(rows: Rows, size: int) -> Iterator[Rows]:
    """Return the rows in batches of at most `size`."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]
