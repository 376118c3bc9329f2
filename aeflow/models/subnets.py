"""Networks inside a coupling step: (B, channels_in, h, w) -> (B, channels_out, h, w)."""

from torch import Tensor, nn


def conv_subnet(channels_in: int, channels_out: int, hidden: int | None = None) -> nn.Sequential:
    """3x3 conv, ReLU, 1x1 conv (the FastFlow kind); hidden width None: that of the input."""
    hidden = channels_in if hidden is None else hidden
    return nn.Sequential(
        nn.Conv2d(channels_in, hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden, channels_out, 1),
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
