"""The normalizing flow: z -> (z', log|det dz'/dz|) and back.

Contract of every module here: `forward(z)` returns `(z', log_det)`, `inverse(z')` returns
`(z, -log_det)`; z and z' are (B, C, h, w), log_det is (B,) in nats, summed over C, h, w.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from aeflow.models.subnets import ResNetSubnet, conv_subnet
from aeflow.settings import FlowSettings

# Keeps a fresh step near the identity, so that a deep flow starts near it too.
START = 0.1


class CouplingStep(nn.Module):
    """Affine coupling on the channel axis, then a fixed random permutation of the channels.

    With z = (a, b): b' = b * exp(s(a)) + t(a), where the log-scale s = clamp * tanh(...) is
    soft-clamped (RealNVP; Dinh, Sohl-Dickstein, Bengio 2017).
    """

    permutation: Tensor
    inverse_permutation: Tensor

    def __init__(
        self, channels: int, subnet: Callable[[int, int], nn.Module], clamp: float
    ) -> None:
        super().__init__()
        self.sizes = [channels - channels // 2, channels // 2]
        self.clamp = clamp
        self.subnet = subnet(self.sizes[0], 2 * self.sizes[1])
        permutation = torch.randperm(channels)
        self.register_buffer("permutation", permutation)
        self.register_buffer("inverse_permutation", permutation.argsort(), persistent=False)

    def _scale_and_shift(self, a: Tensor) -> tuple[Tensor, Tensor]:
        # Under autocast the subnet puts out bfloat16, whose eight bits are too few for log_det.
        raw, shift = (START * self.subnet(a)).to(a.dtype).chunk(2, dim=1)
        return self.clamp * torch.tanh(raw), shift

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z', log_det)."""
        a, b = z.split_with_sizes(self.sizes, dim=1)
        log_scale, shift = self._scale_and_shift(a)
        out = torch.cat((a, b * log_scale.exp() + shift), dim=1)
        return _permute(out, self.permutation), log_scale.sum(dim=(1, 2, 3))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, -log_det)."""
        a, b = _permute(z, self.inverse_permutation).split_with_sizes(self.sizes, dim=1)
        log_scale, shift = self._scale_and_shift(a)
        out = torch.cat((a, (b - shift) * (-log_scale).exp()), dim=1)
        return out, -log_scale.sum(dim=(1, 2, 3))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self.inverse_permutation.copy_(self.permutation.argsort())


def _permute(z: Tensor, index: Tensor) -> Tensor:
    """Return z[:, index], channels last in memory as the next convolution wants them."""
    return z.permute(0, 2, 3, 1).index_select(3, index).permute(0, 3, 1, 2)


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
        """Take mean and sd from batches of features, (B, C, h, w), each seen once."""
        # Double precision on the host: Apple's GPUs have none.
        count, total, squares = 0, self.mean.cpu().double(), self.mean.cpu().double()
        over = (0,) if self.mean.shape[1] > 1 else (0, 2, 3)
        for batch in batches:
            z = batch.cpu().double()
            count += z.numel() // self.mean.numel()
            total = total + z.sum(over).view_as(total)
            squares = squares + z.square().sum(over).view_as(total)
        variance = squares / count - (total / count) ** 2
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


class NormalizingFlow(nn.Module):
    """Coupling steps in a row, after a standardisation where the settings ask for one.

    Args:
        channels: C of the features.
        side: h = w of the features.
        settings: which steps.
    """

    def __init__(self, channels: int, side: int, settings: FlowSettings) -> None:
        super().__init__()
        sides = {"channel": 1, "position": side}
        self.standardisation = (
            None
            if settings.standardise == "none"
            else Standardisation(channels, *(2 * [sides[settings.standardise]]))
        )

        def subnet(channels_in: int, channels_out: int) -> nn.Module:
            if settings.subnet == "resnet":
                return ResNetSubnet(channels_in, channels_out)
            return conv_subnet(channels_in, channels_out, settings.hidden_channels)

        self.steps = nn.ModuleList(
            CouplingStep(channels, subnet, settings.clamp) for _ in range(settings.steps)
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z', log_det)."""
        total = z.new_zeros(len(z))
        if self.standardisation is not None:
            z, total = self.standardisation(z)
        for step in self.steps:
            z, log_det = step(z)
            total = total + log_det
        return z, total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, -log_det)."""
        total = z.new_zeros(len(z))
        for step in reversed(self.steps):
            assert isinstance(step, CouplingStep)
            z, log_det = step.inverse(z)
            total = total + log_det
        if self.standardisation is not None:
            z, log_det = self.standardisation.inverse(z)
            total = total + log_det
        return z, total
