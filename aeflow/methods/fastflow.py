"""FastFlow (Yu et al. 2021): anomalib's flow, loss and map."""

from collections.abc import Iterator

import torch
from anomalib.models.image.fastflow.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import create_fast_flow_block
from torch import Tensor, nn

from aeflow.core.types import Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import BatchScores, Learner, Rows, Update, one_score
from aeflow.study.settings import FitSettings

# As anomalib's Fastflow.configure_optimizers and its defaults for resnet18.
LR, WEIGHT_DECAY, STEPS, HIDDEN_RATIO = 1e-3, 1e-5, 8, 1.0


class Detector(Learner):
    """A flow for each stage, on the source's device.

    As in anomalib, a trained LayerNorm comes before the flow and its log-determinant does not
    count, so the loss is no likelihood of the features.
    """

    def __init__(self, source: FeatureSource, settings: FitSettings, method: Method) -> None:
        self._source, self.name = source, method.value
        norms, flows = nn.ModuleList(), nn.ModuleList()
        for channels, side, _ in source.shapes.values():
            size = [channels, side, side]
            norms.append(nn.LayerNorm(size))
            flows.append(
                create_fast_flow_block(
                    size, conv3x3_only=False, hidden_ratio=HIDDEN_RATIO, flow_steps=STEPS
                )
            )
        self.module = nn.ModuleDict({"norms": norms, "flows": flows}).to(source.device)
        self._stages = list(zip(norms, flows, strict=True))
        self._loss, self._map = FastflowLoss(), AnomalyMapGenerator((source.image_side,) * 2)
        self.updates = [Update(list(self.module.parameters()), LR, weight_decay=WEIGHT_DECAY)]

    def latent(self, rows: Rows) -> tuple[list[Tensor], list[Tensor]]:
        """Return z, (B, C, h, w), and log_det, (B,), of each stage."""
        features = self._source.features(rows).values()
        parts = zip(self._stages, features, strict=True)
        found = [flow(norm(each.contiguous())) for (norm, flow), each in parts]
        return [z for z, _ in found], [log_det for _, log_det in found]

    def losses(self, rows: Rows) -> Iterator[dict[str, Tensor]]:
        """Yield the mean of -log p(z) - log_det over a batch, without 2 pi, in nats."""
        yield {"loss": self._loss(*self.latent(rows))}

    @torch.inference_mode()
    def score(self, rows: Rows) -> BatchScores:
        """Return the map -exp(-mean_c z^2 / 2), bilinear, the stages' mean, and its maximum."""
        anomaly_map = self._map(self.latent(rows)[0])[:, 0]
        return one_score(self.name, anomaly_map.amax(dim=(1, 2)), anomaly_map)
