"""FastFlow (Yu et al. 2021): anomalib's flow, loss and map on one feature map."""

import torch
from anomalib.models.image.fastflow.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import create_fast_flow_block
from torch import Tensor, nn

from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import Fitted, Rows, Scored, fit_epochs
from aeflow.study.settings import TrainingSettings

# As anomalib's Fastflow.configure_optimizers and its defaults for resnet18.
LR, WEIGHT_DECAY, STEPS, HIDDEN_RATIO = 1e-3, 1e-5, 8, 1.0


class FastFlow:
    """Single-scale FastFlow, on the source's device.

    As in anomalib, a trained LayerNorm comes before the flow and its log-determinant does not
    count, so the loss is no likelihood of the features.
    """

    def __init__(self, source: FeatureSource, training: TrainingSettings) -> None:
        self._source, self._training = source, training
        size = [source.channels, source.side, source.side]
        flow = create_fast_flow_block(
            size, conv3x3_only=False, hidden_ratio=HIDDEN_RATIO, flow_steps=STEPS
        )
        self.model = nn.ModuleDict({"norm": nn.LayerNorm(size), "flow": flow}).to(source.device)
        self._loss = FastflowLoss()
        side = source.side * source.stride
        self._map = AnomalyMapGenerator((side, side))
        self._optimizer = torch.optim.Adam(
            self.model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY
        )

    def latent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return z, (B, C, h, w), and log_det, (B,), of features, (B, C, h, w)."""
        z, log_det = self.model["flow"](self.model["norm"](features.contiguous()))
        return z, log_det

    def loss(self, rows: Rows) -> Tensor:
        """Return the mean of -log p(z) - log_det over a batch, without 2 pi, in nats."""
        z, log_det = self.latent(self._source.features(rows))
        loss: Tensor = self._loss([z], [log_det])
        return loss

    def fit(self, train: Rows, validation: Rows, seed: int) -> Fitted:
        """Train with anomalib's optimizer for the study's epochs."""
        return fit_epochs(
            self.model,
            self._step,
            lambda rows: self.loss(rows).item(),
            self._training,
            seed,
            train,
            validation,
        )

    def _step(self, rows: Rows) -> float:
        loss = self.loss(rows)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def score(self, rows: Rows) -> Scored:
        """Return the map -exp(-mean_c z^2 / 2), bilinear, and its maximum."""
        z, _ = self.latent(self._source.features(rows))
        anomaly_map = self._map([z])[:, 0]
        return Scored(anomaly_map.amax(dim=(1, 2)), anomaly_map)
