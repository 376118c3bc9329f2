"""Fixed affine steps before the flow's first coupling step, fitted to the training normals.

They keep the flow's contract: `forward(z)` returns `(z', log_det)`, `inverse(z')` returns
`(z, -log_det)`; z is (B, C, h, w), log_det in nats, here the same for every image.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from aeflow.core.errors import ConfigError, TrainingError


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

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Take mean and sd from batches of features, (B, C, h, w), each seen once.

        Raises:
            TrainingError: the features do not vary, as those of a single image per position.
        """
        # Double precision on the host: Apple's GPUs have none.
        count, total, squares = 0, self.mean.cpu().double(), self.mean.cpu().double()
        over = (0,) if self.mean.shape[1] > 1 else (0, 2, 3)
        for batch in batches:
            z = batch.cpu().double()
            count += z.numel() // self.mean.numel()
            total = total + z.sum(over).view_as(total)
            squares = squares + z.square().sum(over).view_as(total)
        variance = squares / count - (total / count) ** 2
        if not _varies(variance, squares / count):
            raise _no_variance("channel" if over != (0,) else "position")
        variance = variance.clamp(min=0) + self.FLOOR * variance.mean()
        self.mean.copy_((total / count).to(self.mean.dtype))
        self.log_sd.copy_((0.5 * variance.log()).to(self.log_sd.dtype))

    def _log_det(self, z: Tensor) -> Tensor:
        return -self.log_sd.expand(z.shape[1:]).sum()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z', log_det), the latter the same for every image."""
        return (z - self.mean) * (-self.log_sd).exp(), self._log_det(z)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, -log_det)."""
        return z * self.log_sd.exp() + self.mean, -self._log_det(z)


class Whitening(nn.Module):
    """A fixed affine map at each position: z -> L^-1 (z - mean), covariance = L L^T.

    The squared length of its output is the Mahalanobis distance of PaDiM (Defard et al. 2021).
    """

    mean: Tensor
    factor: Tensor
    inverse_factor: Tensor

    # Share of a position's mean variance that is added to each of its channels, so that few
    # images give a covariance of full rank.
    RIDGE = 0.1
    MAX_GIB = 0.5

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        shape = (side * side, channels, channels)
        if 4 * math.prod(shape) > self.MAX_GIB * 2**30:
            raise ConfigError(
                f"flow.standardise: whiten keeps {shape[0]} matrices of {channels} x {channels}, "
                f"more than {self.MAX_GIB} GiB: choose position, or an encoder.stage of fewer "
                "channels or positions."
            )
        self.register_buffer("mean", torch.zeros(channels, side, side))
        self.register_buffer("factor", torch.eye(channels).repeat(shape[0], 1, 1))
        self.register_buffer("inverse_factor", self.factor.clone(), persistent=False)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Take mean and covariance from batches of features, (B, C, h, w), each seen once.

        Raises:
            TrainingError: the features do not vary, as those of a single image.
        """
        # Double precision on the host, as above.
        positions, channels = self.factor.shape[:2]
        count, total = 0, torch.zeros(positions, channels, 1, dtype=torch.float64)
        products = torch.zeros(self.factor.shape, dtype=torch.float64)
        for batch in batches:
            z = _by_position(batch).cpu().double()  # (h * w, C, B)
            count += len(batch)
            total += z.sum(2, keepdim=True)
            products.baddbmm_(z, z.mT)
        mean = total / count
        squares = products.diagonal(dim1=1, dim2=2) / count
        if not _varies(squares - mean[..., 0].square(), squares):
            raise _no_variance("whiten")
        covariance = products.baddbmm_(mean, mean.mT, beta=1 / count, alpha=-1)  # in its place
        variance = covariance.diagonal(dim1=1, dim2=2).mean(1)
        # A position that never changes, as a black corner, is left as it is.
        ridge = torch.where(variance > 1e-6 * variance.mean(), self.RIDGE * variance, 1.0)
        covariance.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
        self.mean.copy_(mean[..., 0].T.reshape(self.mean.shape))
        for position in range(positions):  # the matrices together are too large for copies
            self.factor[position] = torch.linalg.cholesky(covariance[position])
        self._invert()

    def _invert(self) -> None:
        one = torch.eye(self.factor.shape[1], dtype=torch.float64)
        for factor, inverse in zip(self.factor, self.inverse_factor, strict=True):
            exact = torch.linalg.solve_triangular(factor.cpu().double(), one, upper=False)
            inverse.copy_(exact)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self._invert()

    def _log_det(self) -> Tensor:
        return -self.factor.diagonal(dim1=1, dim2=2).log().sum()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z', log_det), the latter the same for every image."""
        return _at_each_position(self.inverse_factor, z - self.mean), self._log_det()

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, -log_det)."""
        return _at_each_position(self.factor, z) + self.mean, -self._log_det()


def _varies(variance: Tensor, squares: Tensor) -> bool:
    """Whether there is more than rounding would leave of mean squares."""
    return bool(variance.mean() > 1e-12 * squares.mean())


def _no_variance(name: str) -> TrainingError:
    return TrainingError(
        f"flow.standardise: {name} needs training normals that differ from each other, and the "
        "features of these do not: use two or more different normal images, or set "
        "flow.standardise to none."
    )


def _by_position(z: Tensor) -> Tensor:
    """(B, C, h, w) -> (h * w, C, B)."""
    return z.flatten(2).permute(2, 1, 0)


def _at_each_position(matrices: Tensor, z: Tensor) -> Tensor:
    """Multiply the channels of z, (B, C, h, w), by a matrix per position, (h * w, C, C)."""
    out = torch.bmm(matrices, _by_position(z))  # (h * w, C, B)
    return out.permute(2, 0, 1).reshape(len(z), *z.shape[2:], -1).permute(0, 3, 1, 2)
