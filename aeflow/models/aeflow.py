"""AE-FLOW behind its encoder: z -> flow -> z' -> decoder -> x'."""

from typing import NamedTuple

from torch import Tensor, nn

from aeflow.models.decoder import Decoder
from aeflow.models.flow import NormalizingFlow
from aeflow.settings import DecoderSettings, FlowSettings


class AEFlowOutput(NamedTuple):
    """What the model makes of a batch of features.

    Attributes:
        z: z' of the paper, (B, C, h, w), float32.
        log_det: log|det dz'/dz|, (B,), nats, float32.
        reconstruction: x', (B, 3, H, W), float32, in the units of `Decoder.target`.
    """

    z: Tensor
    log_det: Tensor
    reconstruction: Tensor


class AEFlow(nn.Module):
    """Flow and decoder on features (B, channels, side, side) of an encoder with `stride`.

    A fine-tuned `encoder` is a part of the model, so that it is trained and saved with it; a
    frozen one stays outside, and its features may come from the cache.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        stride: int,
        flow: FlowSettings,
        decoder: DecoderSettings,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.flow = NormalizingFlow(channels, side, flow)
        self.decoder = Decoder(channels, stride, decoder)

    def forward(self, z: Tensor) -> AEFlowOutput:
        """Return z', log_det and the reconstruction of features z, (B, C, h, w)."""
        latent, log_det = self.flow(z)
        reconstruction = self.decoder(latent)
        # Under autocast the sums that follow need more than bfloat16's eight bits.
        return AEFlowOutput(latent.float(), log_det.float(), reconstruction.float())
