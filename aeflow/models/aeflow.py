"""AE-FLOW behind its encoder: z -> flow -> z' -> decoder -> x'."""

from typing import NamedTuple

from torch import Tensor, nn

from aeflow.models.decoder import Decoder
from aeflow.models.flow import NormalizingFlow
from aeflow.study.settings import DecoderSettings, FlowSettings


class AEFlowOutput(NamedTuple):
    """What the model makes of a batch of features.

    Attributes:
        z: z' of the paper, (B, C, h, w), float32.
        log_det: log|det dz'/dz|, (B,), nats, float32.
        reconstruction: x', (B, 3, H, W), float32, in the units of `Decoder.target`; None without
            a decoder.
    """

    z: Tensor
    log_det: Tensor
    reconstruction: Tensor | None


class AEFlow(nn.Module):
    """Flow and decoder on features (B, channels, side, side) of an encoder with `stride`.

    Without `flow` it is an autoencoder (z' = z), without `decoder` a flow alone.

    A fine-tuned `encoder` is a part of the model, so that it is trained and saved with it; a
    frozen one stays outside, and its features may come from the cache.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        stride: int,
        flow: FlowSettings | None,
        decoder: DecoderSettings | None,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.flow = None if flow is None else NormalizingFlow(channels, side, flow)
        self.decoder = None if decoder is None else Decoder(channels, stride, decoder)

    def forward(self, z: Tensor) -> AEFlowOutput:
        """Return z', log_det and the reconstruction of features z, (B, C, h, w)."""
        latent, log_det = (z, z.new_zeros(len(z))) if self.flow is None else self.flow(z)
        reconstruction = None if self.decoder is None else self.decoder(latent).float()
        # Under autocast the sums that follow need more than bfloat16's eight bits.
        return AEFlowOutput(latent.float(), log_det.float(), reconstruction)
