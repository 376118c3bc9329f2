"""The decoders: z' -> x', or z' -> the features of an earlier stage."""

import torch
from torch import Tensor, nn

from aeflow.core.types import IMAGENET_MEAN, IMAGENET_SD
from aeflow.models.standardisation import Standardisation, Whitening
from aeflow.study.settings import DecoderSettings


def decoder_widths(channels: int, stride: int) -> list[int]:
    """Return the output channels of each block; the last is 3.

    The paper's encoder (1024 channels, stride 16) gets the paper's widths; for others the width
    halves from block to block and stays at 16 or more.
    """
    if stride < 2 or stride & (stride - 1):
        raise ValueError(
            f"The decoder needs an encoder whose stride is 2, 4, 8, ..., not {stride}."
        )
    if (channels, stride) == (1024, 16):
        return [512, 256, 64, 3]
    blocks = stride.bit_length() - 1
    return [max(16, channels >> (block + 1)) for block in range(blocks - 1)] + [3]


class Decoder(nn.Module):
    """log2(stride) blocks; each doubles the side with a 2x2 transposed conv.

    All blocks but the last add a 3x3 conv of the same width. (B, C, h, w) -> (B, 3, H, W), in
    [0, 1] with `sigmoid`, in [-1, 1] with `tanh`.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, channels: int, stride: int, settings: DecoderSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in decoder_widths(channels, stride):
            layers.append(nn.ConvTranspose2d(channels, width, 2, stride=2))
            if width != 3:
                layers += [nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.Sigmoid() if settings.output == "sigmoid" else nn.Tanh())
        self.layers = nn.Sequential(*layers)
        self.normalised = settings.output == "tanh"
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("sd", torch.tensor(IMAGENET_SD).view(3, 1, 1), persistent=False)

    def target(self, x: Tensor) -> Tensor:
        """Return what the decoder is trained to put out for images x in [0, 1]."""
        return (x - self.mean) / self.sd if self.normalised else x

    def pixels(self, reconstruction: Tensor) -> Tensor:
        """Return an output of the decoder as an image in [0, 1]."""
        if not self.normalised:
            return reconstruction
        return (reconstruction * self.sd + self.mean).clamp(0, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Return the reconstruction in the units of `target`."""
        out: Tensor = self.layers(z)
        return out


class FeatureDecoder(nn.Module):
    """As `Decoder`, without its last activation, to the features of an earlier stage.

    The target is standardised per channel, so that no channel outweighs the others. A residual is
    whitened by the mean and covariance that those of training normals have at each position, with
    the shrinkage of `Whitening`: it is fitted to what the decoder was trained on, whose residuals
    are smaller than those of new images.

    (B, C, h, w) -> (B, C_target, side, side).
    """

    def __init__(
        self, channels: int, side: int, target_channels: int, target_side: int, ridge: float
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while side < target_side:
            width = max(target_channels, channels // 2)
            layers += [nn.ConvTranspose2d(channels, width, 2, stride=2), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
            channels, side = width, 2 * side
        layers.append(nn.Conv2d(channels, target_channels, 1))
        self.layers = nn.Sequential(*layers)
        self.standardisation = Standardisation(target_channels, 1, 1)
        self.residual = Whitening(target_channels, target_side, ridge)

    def target(self, features: Tensor) -> Tensor:
        """Return what the decoder is trained to put out for features of the target's stage."""
        standardised: Tensor = self.standardisation(features)[0]
        return standardised

    def forward(self, z: Tensor) -> Tensor:
        """Return the reconstruction in the units of `target`."""
        out: Tensor = self.layers(z)
        return out
