"""PaDiM (Defard et al. 2021): anomalib's Gaussian per position on one feature map."""

import torch
from anomalib.models.components import MultiVariateGaussian
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from torch import Tensor

from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import Fitted, Rows, Scored, batches
from aeflow.study.settings import TrainingSettings

# Channels that are kept, anomalib's number for resnet18.
FEATURES = 100


class Padim:
    """A Gaussian of some channels, drawn by chance, at each position; on the source's device."""

    def __init__(self, source: FeatureSource, training: TrainingSettings) -> None:
        self._source, self._batch = source, training.batch_size
        self.channels = torch.randperm(source.channels)[:FEATURES].to(source.device)
        self._gaussian = MultiVariateGaussian().to(source.device)
        self._map = AnomalyMapGenerator().to(source.device)
        self._side = source.side * source.stride

    def _embedding(self, rows: Rows) -> Tensor:
        return self._source.features(rows)[:, self.channels].contiguous()

    @torch.inference_mode()
    def fit(self, train: Rows, validation: Rows, seed: int) -> Fitted:
        """Fit mean and covariance to the training normals; nothing else is chosen."""
        embedding = torch.cat([self._embedding(rows) for rows in batches(train, self._batch)])
        mean, inverse = self._gaussian.fit(embedding)
        return Fitted(mean.numel() + inverse.numel())

    def distances(self, rows: Rows) -> Tensor:
        """Return the Mahalanobis distance at each position, (B, h, w)."""
        distances: Tensor = self._map.compute_distance(
            self._embedding(rows), [self._gaussian.mean, self._gaussian.inv_covariance]
        )
        return distances[:, 0]

    @torch.inference_mode()
    def score(self, rows: Rows) -> Scored:
        """Return the distances, bilinear and smoothed, and their maximum."""
        anomaly_map = self._map(
            embedding=self._embedding(rows),
            mean=self._gaussian.mean,
            inv_covariance=self._gaussian.inv_covariance,
            image_size=(self._side, self._side),
        )[:, 0]
        return Scored(anomaly_map.amax(dim=(1, 2)), anomaly_map)
