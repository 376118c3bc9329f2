"""AE-FLOW behind its encoder: z -> flow -> z' -> decoder -> x'."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aeflow.core.types import AnomalyMap
from aeflow.encoder.features import Shape
from aeflow.models.components import (
    difference_map,
    enlarge,
    flow_scores,
    local_energy,
    local_nll,
    reconstruction_scores,
    residual_scores,
)
from aeflow.models.decoder import Decoder, FeatureDecoder
from aeflow.models.flow import NormalizingFlow
from aeflow.models.standardisation import MapScale
from aeflow.study.settings import DecoderSettings, FlowSettings, GaussianSettings, MapSettings


class AEFlowOutput(NamedTuple):
    """What the model makes of a batch of features.

    Attributes:
        z: z' of the paper of each stage, (B, C, h, w), float32.
        log_det: log|det dz'/dz| of each stage and position, (B, h, w), nats, float32.
        reconstruction: float32, in the units of the decoder's `target`; None without a decoder.
    """

    z: list[Tensor]
    log_det: list[Tensor]
    reconstruction: Tensor | None


class AEFlowScores(NamedTuple):
    """What the model says of a batch of images, by name; higher is more anomalous."""

    components: dict[str, Tensor]  # (B,)
    coarse: dict[str, Tensor]  # (B, h, w), maps in the size of features
    difference: Tensor | None  # (B, H, W), the map of a decoder of pixels
    reconstruction: Tensor | None  # (B, 3, H, W) in [0, 1], of such a decoder

    def maps(self, wanted: Sequence[str], side: int) -> dict[str, Tensor]:
        """Return the difference, if there is one, and what is wanted of the others, (B, S, S)."""
        found = {n: enlarge(each, side) for n, each in self.coarse.items() if n in wanted}
        if self.difference is not None:
            found[str(AnomalyMap.DIFFERENCE)] = self.difference
        return found


class AEFlow(nn.Module):
    """Flows and decoder on features of one or several stages.

    Without `flow` it is an autoencoder (z' = z), without `decoder` flows alone. Each stage has a
    flow of its own; the decoder reads z' of the last.

    A fine-tuned `encoder` is a part of the model, so that it is trained and saved with it; a
    frozen one stays outside, and its features may come from the cache.

    Args:
        shapes: of the stages.
        target: of the stage that a decoder of features reconstructs.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        flow: FlowSettings | None,
        gaussian: GaussianSettings,
        maps: MapSettings,
        decoder: DecoderSettings | None,
        target: Shape | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.each_flow: list[NormalizingFlow] = []
        if flow is not None:
            self.each_flow = [
                NormalizingFlow(shape.channels, shape.side, flow, gaussian) for shape in shapes
            ]
        self.flows = nn.ModuleList(self.each_flow)
        self.scales = nn.ModuleList()  # of the stages' maps, if they are standardised
        if (
            flow is not None
            and (maps.standardise or len(shapes) > 1)
            and maps.standardise != "none"
        ):
            self.scales.extend(MapScale(shape.side) for shape in shapes)
        self.weights = maps.weights or [1.0] * len(shapes)
        self.decoder: Decoder | FeatureDecoder | None = None
        channels, side, stride = shapes[-1]
        if decoder is not None and target is not None:
            of_target = (target.channels, target.side, gaussian.ridge)
            self.decoder = FeatureDecoder(channels, side, *of_target)
        elif decoder is not None:
            self.decoder = Decoder(channels, stride, decoder)

    def forward(self, features: Sequence[Tensor]) -> AEFlowOutput:
        """Return z', log_det and the reconstruction of features z, (B, C, h, w) of each stage."""
        latent, log_det = list(features), [z.new_zeros(len(z), *z.shape[2:]) for z in features]
        if self.each_flow:
            pairs = [flow(z) for flow, z in zip(self.each_flow, features, strict=True)]
            latent, log_det = [z for z, _ in pairs], [found for _, found in pairs]
        reconstruction = None if self.decoder is None else self.decoder(latent[-1]).float()
        # Under autocast the sums that follow need more than bfloat16's eight bits.
        return AEFlowOutput(
            [z.float() for z in latent], [found.float() for found in log_det], reconstruction
        )

    def stage_maps(self, out: AEFlowOutput) -> list[Tensor]:
        """Return local energy and local nll of each stage, (2, B, h, w)."""
        return [
            torch.stack((local_energy(z), local_nll(z, log_det)))
            for z, log_det in zip(out.z, out.log_det, strict=True)
        ]

    def maps(self, out: AEFlowOutput) -> Tensor:
        """Return local energy and local nll, (2, B, h, w), of all stages together.

        Each is put on the scale of `scales`, if there are any, enlarged to the first stage's side,
        which is the finest, and weighted.
        """
        found = self.stage_maps(out)
        if self.scales:
            found = [scale(maps) for scale, maps in zip(self.scales, found, strict=True)]
        if len(found) == 1:
            return found[0]
        total = torch.zeros_like(found[0])
        for maps, weight in zip(found, self.weights, strict=True):
            enlarged = F.interpolate(maps, total.shape[2:], mode="bilinear", align_corners=False)
            total += weight / sum(self.weights) * enlarged
        return total

    def scores(
        self,
        features: Sequence[Tensor],
        target: Tensor | None,
        images: Tensor | None,
        shares: Sequence[float],
    ) -> AEFlowScores:
        """Return every score component and map of the model's parts.

        Scoring and `predict` run this, and an exported graph is made of it.

        Args:
            features: z of each stage, (B, C, h, w).
            target: features of the stage that a decoder of features reconstructs.
            images: in [0, 1], (B, 3, H, W), which a decoder of pixels reconstructs.
            shares: of positions, for scores that are a mean of the highest.
        """
        out: AEFlowOutput = self(features)
        components: dict[str, Tensor] = {}
        coarse: dict[str, Tensor] = {}
        difference = reconstruction = None
        if self.each_flow:
            energy, nll = self.maps(out)
            components |= flow_scores(energy, nll, shares)
            density = -torch.exp(-energy)
            coarse |= {AnomalyMap.FLOW: density, AnomalyMap.ENERGY: energy, AnomalyMap.NLL: nll}
        if isinstance(self.decoder, FeatureDecoder):
            residual = local_energy(self.decoder.residual(self.residual(out, target))[0])
            components |= residual_scores(residual, shares)
            coarse[AnomalyMap.RESIDUAL] = residual
        elif self.decoder is not None:
            assert images is not None
            assert out.reconstruction is not None
            reconstruction = self.decoder.pixels(out.reconstruction)
            components |= reconstruction_scores(images, reconstruction)
            difference = difference_map(images, reconstruction)
        return AEFlowScores(
            {str(name): each for name, each in components.items()},
            {str(name): each for name, each in coarse.items()},
            difference,
            reconstruction,
        )

    def residual(self, out: AEFlowOutput, target: Tensor | None) -> Tensor:
        """Return what a decoder of features leaves of its target, (B, C, h, w), standardised."""
        assert isinstance(self.decoder, FeatureDecoder)
        assert target is not None
        assert out.reconstruction is not None
        return self.decoder.target(target) - out.reconstruction
