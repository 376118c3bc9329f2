"""The normalizing flow: z -> (z', log|det dz'/dz|) and back.

Contract of every module here: `forward(z)` returns `(z', log_det)`, `inverse(z')` returns
`(z, -log_det)`; z and z' are (B, C, h, w), log_det is (B, h, w) in nats: the share of each
position, summed over C, so that a likelihood has a map; the sum over positions is the flow's.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from aeflow.models.standardisation import Standardisation, Whitening
from aeflow.study.settings import FlowSettings, GaussianSettings

# Keeps a step near the identity for the first updates, so that a deep flow stays near it too.
START = 0.1


def conv_subnet(channels_in: int, channels_out: int, hidden: int | None = None) -> nn.Sequential:
    """3x3 conv, ReLU, 1x1 conv (the FastFlow kind); hidden width None: that of the input.

    It puts out zeros until it is trained (as in Glow; Kingma, Dhariwal 2018). So a new step is the
    identity, and a flow before its first epoch its standardisation: the Gaussian to be beaten.
    """
    hidden = channels_in if hidden is None else hidden
    last = nn.Conv2d(hidden, channels_out, 1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(
        nn.Conv2d(channels_in, hidden, 3, padding=1),
        nn.ReLU(),
        last,
    )


class ResNetSubnet(nn.Module):
    """3x3 conv, BatchNorm, ReLU, plus a 1x1 conv shortcut, summed."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
        )
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return body(x) + shortcut(x)."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class CouplingStep(nn.Module):
    """Coupling on the channel axis, then a fixed random permutation of the channels.

    With z = (a, b): b' = b * exp(s(a)) + t(a), where the log-scale s = clamp * tanh(...) is
    soft-clamped (RealNVP; Dinh, Sohl-Dickstein, Bengio 2017). Without `affine`, s = 0 (NICE;
    Dinh, Krueger, Bengio 2015).
    """

    permutation: Tensor
    inverse_permutation: Tensor

    def __init__(
        self,
        channels: int,
        subnet: Callable[[int, int], nn.Module],
        clamp: float,
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.sizes = [channels - channels // 2, channels // 2]
        self.clamp, self.affine = clamp, affine
        self.subnet = subnet(self.sizes[0], (2 if affine else 1) * self.sizes[1])
        permutation = torch.randperm(channels)
        self.register_buffer("permutation", permutation)
        self.register_buffer("inverse_permutation", permutation.argsort(), persistent=False)

    def _scale_and_shift(self, a: Tensor) -> tuple[Tensor, Tensor]:
        # Under autocast the subnet puts out bfloat16, whose eight bits are too few for log_det.
        # Each part is scaled by itself, which makes it dense: tanh takes half the time then.
        parts = self.subnet(a).chunk(2 if self.affine else 1, dim=1)
        *raw, shift = ((START * part).to(a.dtype) for part in parts)
        return self.clamp * torch.tanh(raw[0]) if raw else torch.zeros_like(shift), shift

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z', log_det)."""
        a, b = z.split_with_sizes(self.sizes, dim=1)
        log_scale, shift = self._scale_and_shift(a)
        out = torch.cat((a, b * log_scale.exp() + shift), dim=1)
        return _permute(out, self.permutation), log_scale.sum(dim=1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, -log_det)."""
        a, b = _permute(z, self.inverse_permutation).split_with_sizes(self.sizes, dim=1)
        log_scale, shift = self._scale_and_shift(a)
        out = torch.cat((a, (b - shift) * (-log_scale).exp()), dim=1)
        return out, -log_scale.sum(dim=1)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self.inverse_permutation.copy_(self.permutation.argsort())


def _permute(z: Tensor, index: Tensor) -> Tensor:
    """Return z[:, index], channels last in memory as the next convolution wants them."""
    values = z.permute(0, 2, 3, 1)
    if z.device.type == "cpu":  # a quarter of the time that selecting takes
        return values.gather(3, index.expand(values.shape)).permute(0, 3, 1, 2)
    # The gradient of gather would sort all values there, to be deterministic.
    return values.index_select(3, index).permute(0, 3, 1, 2)


class NormalizingFlow(nn.Module):
    """Coupling steps in a row, after a standardisation where the settings ask for one.

    In training, `flow.noise` is added between the two: whitened features of a few hundred images
    are otherwise learned by heart.
    """

    def __init__(
        self, channels: int, side: int, settings: FlowSettings, gaussian: GaussianSettings
    ) -> None:
        super().__init__()
        self.noise = settings.noise
        self.standardisation: Standardisation | Whitening | None
        match settings.standardise:
            case "none":
                self.standardisation = None
            case "channel":
                self.standardisation = Standardisation(channels, 1, 1)
            case "position":
                self.standardisation = Standardisation(channels, side, side)
            case "whiten":
                shared = gaussian.covariance == "shared"
                self.standardisation = Whitening(channels, 1 if shared else side, gaussian.ridge)

        def subnet(channels_in: int, channels_out: int) -> nn.Module:
            if settings.subnet == "resnet":
                return ResNetSubnet(channels_in, channels_out)
            return conv_subnet(channels_in, channels_out, settings.hidden_channels)

        self.steps = nn.ModuleList(
            CouplingStep(channels, subnet, settings.clamp, settings.coupling == "affine")
            for _ in range(settings.steps)
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z', log_det)."""
        total = z.new_zeros(len(z), *z.shape[2:])
        if self.standardisation is not None:
            z, total = self.standardisation(z)
        if self.training and self.noise:
            z = z + self.noise * torch.randn_like(z)
        for step in self.steps:
            z, log_det = step(z)
            total = total + log_det
        return z, total

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return (z, -log_det)."""
        total = z.new_zeros(len(z), *z.shape[2:])
        for step in reversed(self.steps):
            assert isinstance(step, CouplingStep)
            z, log_det = step.inverse(z)
            total = total + log_det
        if self.standardisation is not None:
            z, log_det = self.standardisation.inverse(z)
            total = total + log_det
        return z, total
