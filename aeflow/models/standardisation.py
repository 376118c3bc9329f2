"""Fixed affine steps before the flow's first coupling step, fitted to the training normals.

In one pass: `add` each batch, then `fit`.

They keep the flow's contract: `forward(z)` returns `(z', log_det)`, `inverse(z')` returns
`(z, -log_det)`; z is (B, C, h, w), log_det (B, h, w) in nats. Here it is the same for every image
and spread evenly over positions: how much a position varies among normals must not tell on the map
of a likelihood, which compares positions.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aeflow.core.errors import ConfigError, TrainingError

logger = logging.getLogger(__name__)


@dataclass
class _Sums:
    """Over the vectors seen so far, in double precision."""

    total: Tensor
    squares: Tensor  # or outer products
    count: int = 0


class Standardisation(nn.Module):
    """A fixed affine map: z -> (z - mean) / sd, per channel or per channel and position."""

    mean: Tensor
    log_sd: Tensor

    # Share of the mean variance that is added to each: a constant channel must not explode.
    FLOOR = 0.01

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("log_sd", torch.zeros(shape))
        self._sums: _Sums | None = None

    def add(self, batch: Tensor) -> None:
        """Take a batch of features, (B, C, h, w), into account; each is seen once."""
        # Double precision on the host: Apple's GPUs have none.
        z = batch.cpu().double()
        if self._sums is None:
            total, squares = torch.zeros(2, *self.mean.shape, dtype=torch.float64)
            self._sums = _Sums(total, squares)
        over = (0,) if self.mean.shape[1] > 1 else (0, 2, 3)
        self._sums.count += z.numel() // self.mean.numel()
        self._sums.total += z.sum(over).view(self.mean.shape)
        self._sums.squares += z.square().sum(over).view(self.mean.shape)

    def fit(self) -> None:
        """Take mean and sd from what was added.

        Raises:
            TrainingError: the features do not vary, as those of a single image per position.
        """
        assert self._sums is not None
        mean, squares = (of / self._sums.count for of in (self._sums.total, self._sums.squares))
        self._sums = None
        variance = squares - mean**2
        if not _varies(variance, squares):
            kind = "channel" if self.mean.shape[1] == 1 else "position"
            raise _no_variance(f"flow.standardise: {kind}", "set flow.standardise to none")
        variance = variance.clamp(min=0) + self.FLOOR * variance.mean()
        self.mean.copy_(mean.to(self.mean.dtype))
        self.log_sd.copy_((0.5 * variance.log()).to(self.log_sd.dtype))

    def _log_det(self, z: Tensor) -> Tensor:
        return _spread(-self.log_sd.expand(z.shape[1:]).sum(), z)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z', log_det), the latter the same for every image."""
        return (z - self.mean) * (-self.log_sd).exp(), self._log_det(z)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, -log_det)."""
        return z * self.log_sd.exp() + self.mean, -self._log_det(z)


class Whitening(nn.Module):
    """A fixed affine map: z -> L^-1 (z - mean), covariance = L L^T of the channels.

    Mean and covariance are those of each of `side` x `side` positions, so that the length of
    its output is the Mahalanobis distance of PaDiM (Defard et al. 2021), but for
    the ridge; with `side` 1, of all positions together.
    """

    mean: Tensor
    factor: Tensor  # of L the lower triangle, row after row: half the size in files
    inverse_factor: Tensor
    log_det: Tensor

    MAX_GIB = 0.5

    def __init__(self, channels: int, side: int, ridge: float) -> None:
        super().__init__()
        shape = (side * side, channels, channels)
        if 4 * math.prod(shape) > self.MAX_GIB * 2**30:
            raise ConfigError(
                f"gaussian.covariance: position keeps {shape[0]} matrices of {channels} x "
                f"{channels}, more than {self.MAX_GIB} GiB: choose shared, another "
                "flow.standardise, or encoder.stages of fewer channels or positions."
            )
        self.side, self.ridge = side, ridge
        self.register_buffer("mean", torch.zeros(channels, side, side))
        one = torch.eye(channels)
        self._triangle = torch.tril_indices(channels, channels).unbind()
        self.register_buffer("factor", one[self._triangle].repeat(shape[0], 1))
        self.register_buffer("inverse_factor", one.repeat(shape[0], 1, 1), persistent=False)
        self.register_buffer("log_det", torch.zeros(()), persistent=False)
        self._sums: _Sums | None = None

    def add(self, batch: Tensor) -> None:
        """Take a batch of features, (B, C, h, w), into account; each is seen once."""
        z = self._columns(batch).cpu().double()  # as above
        if self._sums is None:
            zeros = torch.zeros(self.inverse_factor.shape, dtype=torch.float64)
            self._sums = _Sums(zeros[..., :1].clone(), zeros)
        self._sums.count += z.shape[2]
        self._sums.total += z.sum(2, keepdim=True)
        self._sums.squares.baddbmm_(z, z.mT)

    def fit(self) -> None:
        """Take mean and covariance from what was added.

        Raises:
            TrainingError: the features do not vary, as those of a single image.
        """
        assert self._sums is not None
        count, products = self._sums.count, self._sums.squares
        mean, self._sums = self._sums.total / count, None
        squares = products.diagonal(dim1=1, dim2=2) / count
        if not _varies(squares - mean[..., 0].square(), squares):
            raise _no_variance("Whitening", "do without it")
        if count <= (channels := self.mean.shape[0]):
            logger.info(
                "%d vectors at a position span at most %d of %d channels: in the others "
                "gaussian.ridge (%g of the mean variance) stands for the variance. From %d images "
                "on none is without one of its own.",
                *(count, count - 1, channels, self.ridge, channels + 1),
            )
        covariance = products.baddbmm_(mean, mean.mT, beta=1 / count, alpha=-1)  # in its place
        variance = covariance.diagonal(dim1=1, dim2=2).mean(1)
        # A position that never changes, as a black corner, is left as it is.
        ridge = torch.where(variance > 1e-6 * variance.mean(), self.ridge * variance, 1.0)
        covariance.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
        self.mean.copy_(mean[..., 0].T.reshape(self.mean.shape))
        with _one_thread():
            for position in range(len(covariance)):  # together they are too large for copies
                lower = torch.linalg.cholesky(covariance[position])
                self.factor[position] = lower[self._triangle]
        self._invert()

    def _invert(self) -> None:
        one = torch.eye(len(self.mean), dtype=torch.float64)
        with _one_thread():
            for factor, inverse in zip(self._lower(), self.inverse_factor, strict=True):
                exact = torch.linalg.solve_triangular(factor.cpu().double(), one, upper=False)
                inverse.copy_(exact)
        rows, columns = self._triangle
        total = -self.factor[:, rows == columns].log().sum()
        self.log_det.copy_(total / len(self.factor))

    def _lower(self) -> Tensor:
        """Return L of each position, (positions, C, C)."""
        rows, columns = self._triangle
        lower = torch.zeros_like(self.inverse_factor)
        lower[:, rows, columns] = self.factor
        return lower

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self._invert()

    def _log_det(self, z: Tensor) -> Tensor:
        return self.log_det.expand(z.shape[0], *z.shape[2:])

    def _columns(self, z: Tensor) -> Tensor:
        """(B, C, h, w) -> (h * w, C, B): the vectors of each position, or (1, C, B * h * w)."""
        if self.side == 1:
            return z.permute(1, 0, 2, 3).flatten(1)[None]
        return z.flatten(2).permute(2, 1, 0)

    def _times(self, matrices: Tensor, z: Tensor) -> Tensor:
        """Multiply the channels of z, (B, C, h, w), by matrices, (positions, C, C)."""
        out = torch.bmm(matrices, self._columns(z))
        if self.side == 1:
            return out.reshape(-1, len(z), *z.shape[2:]).permute(1, 0, 2, 3)
        return out.permute(2, 0, 1).reshape(len(z), *z.shape[2:], -1).permute(0, 3, 1, 2)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z', log_det), the latter the same for every image."""
        return self._times(self.inverse_factor, z - self.mean), self._log_det(z)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, -log_det)."""
        return self._times(self._lower(), z) + self.mean, -self._log_det(z)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: of thousands of small matrices each is done before others join in.

    On two busy cores the inverse of 128 x 128 took 6 ms of CPU time by two threads, 0.2 ms by one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _spread(total: Tensor, z: Tensor) -> Tensor:
    """Return a log-determinant () of each image of z, (B, C, h, w), as (B, h, w)."""
    batch, _, height, width = z.shape
    return (total / (height * width)).expand(batch, height, width)


def _varies(variance: Tensor, squares: Tensor) -> bool:
    """Whether there is more than rounding would leave of mean squares."""
    return bool(variance.mean() > 1e-12 * squares.mean())


def _no_variance(what: str, otherwise: str) -> TrainingError:
    return TrainingError(
        f"{what} needs training normals that differ from each other, and the features of these do "
        f"not: use two or more different normal images, or {otherwise}."
    )


class MapScale(nn.Module):
    """The scale of local energy and local nll at each position, of validation normals.

    Few of them say little of a single position, so its mean and variance count together with those
    of all positions, as of `PRIOR` further images.
    """

    mean: Tensor
    sd: Tensor

    PRIOR = 5

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2, side, side))
        self.register_buffer("sd", torch.ones(2, side, side))
        self._sums: _Sums | None = None

    def add(self, maps: Tensor) -> None:
        """Take the maps of a batch, (2, B, h, w), into account; each is seen once."""
        values = maps.cpu().double()
        if self._sums is None:
            self._sums = _Sums(torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0]))
        self._sums.count += values.shape[1]
        self._sums.total += values.sum(1)
        self._sums.squares += values.square().sum(1)

    def fit(self) -> None:
        """Take the scale from what was added."""
        assert self._sums is not None
        count, mean = self._sums.count, self._sums.total / self._sums.count
        squares = self._sums.squares / count
        self._sums = None

        def shrunk(of_each: Tensor, of_all: Tensor) -> Tensor:
            return (count * of_each + self.PRIOR * of_all) / (count + self.PRIOR)

        mean_of_all = mean.mean((1, 2), keepdim=True)
        variance_of_all = squares.mean((1, 2), keepdim=True) - mean_of_all.square()
        variance = shrunk(squares - mean.square(), variance_of_all).clamp(min=0)
        self.mean.copy_(shrunk(mean, mean_of_all))
        # Maps that do not vary have no scale: they say nothing.
        silent = variance_of_all <= 1e-12 * squares.mean((1, 2), keepdim=True)
        self.sd.copy_(variance.sqrt().masked_fill(silent, torch.inf))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps, (2, B, h, w), on that scale.

        asinh: nearly linear below 1 and a logarithm above, so that of several stages the coarse
        one, which is sure of a defect and not of its place, does not drown the finer ones.
        """
        return torch.asinh((maps - self.mean[:, None]) / self.sd[:, None])
