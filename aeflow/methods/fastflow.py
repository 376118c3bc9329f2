"""FastFlow (Yu et al. 2021): anomalib's flow, loss and map on one feature map."""

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
    """Single-scale FastFlow, on the source's device.

    As in anomalib, a trained LayerNorm comes before the flow and its log-determinant does not
    count, so the loss is no likelihood of the features.
    """

    def __init__(self, source: FeatureSource, settings: FitSettings, method: Method) -> None:
        self._source, self.name = source, method.value
        size = [source.channels, source.side, source.side]
        flow = create_fast_flow_block(
            size, conv3x3_only=False, hidden_ratio=HIDDEN_RATIO, flow_steps=STEPS
        )
        self.module = nn.ModuleDict({"norm": nn.LayerNorm(size), "flow": flow}).to(source.device)
        self._loss, self._map = FastflowLoss(), AnomalyMapGenerator((source.image_side,) * 2)
        self.updates = [Update(list(self.module.parameters()), LR, weight_decay=WEIGHT_DECAY)]

    def latent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return z, (B, C, h, w), and log_det, (B,), of features, (B, C, h, w)."""
        z, log_det = self.module["flow"](self.module["norm"](features.contiguous()))
        return z, log_det

    def losses(self, rows: Rows) -> Iterator[dict[str, Tensor]]:
        """Yield the mean of -log p(z) - log_det over a batch, without 2 pi, in nats."""
        z, log_det = self.latent(self._source.features(rows))
        yield {"loss": self._loss([z], [log_det])}

    @torch.inference_mode()
    def score(self, rows: Rows) -> BatchScores:
        """Return the map -exp(-mean_c z^2 / 2), bilinear, and its maximum."""
        z, _ = self.latent(self._source.features(rows))
        anomaly_map = self._map([z])[:, 0]
        return one_score(self.name, anomaly_map.amax(dim=(1, 2)), anomaly_map)
