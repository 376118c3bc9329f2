"""PaDiM (Defard et al. 2021): anomalib's Gaussian per position."""

import torch
from anomalib.models.components import MultiVariateGaussian
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from torch import Tensor

from aeflow.core.errors import TrainingError
from aeflow.core.types import Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import BatchScores, Learner, Rows, batches, one_score
from aeflow.study.settings import FitSettings

# Channels that are kept, anomalib's number for resnet18.
FEATURES = 100


class Detector(Learner):
    """A Gaussian of some channels, drawn by chance, at each position; on the source's device."""

    def __init__(self, source: FeatureSource, settings: FitSettings, method: Method) -> None:
        self._source, self._batch, self.name = source, settings.training.batch_size, method.value
        every = sum(shape.channels for shape in source.shapes.values())
        channels = torch.randperm(every)[:FEATURES]
        self.module = MultiVariateGaussian()
        self.module.register_buffer("channels", channels)
        # What is loaded lies in memory as torch.linalg.inv lays it, so that products round alike.
        n = len(channels)
        self.module.inv_covariance = torch.empty(source.side**2, n, n).mT
        self.module.to(source.device)
        self._map = AnomalyMapGenerator().to(source.device)

    def _embedding(self, rows: Rows) -> Tensor:
        return self._source.one_map(rows, "nearest")[:, self.module.channels].contiguous()

    @torch.no_grad()
    def fit(self, train: Rows) -> None:
        """Fit mean and covariance to the training normals; TrainingError: there is only one."""
        if len(train) < 2:
            raise TrainingError(
                "PaDiM fits a covariance to 2 or more training normals, there is 1: use more "
                "normal images, or another method."
            )
        self.module.fit(torch.cat([self._embedding(rows) for rows in batches(train, self._batch)]))

    @torch.inference_mode()
    def score(self, rows: Rows) -> BatchScores:
        """Return the distances of Mahalanobis, bilinear and smoothed, and their maximum."""
        anomaly_map = self._map(
            embedding=self._embedding(rows),
            mean=self.module.mean,
            inv_covariance=self.module.inv_covariance,
            image_size=(self._source.image_side,) * 2,
        )[:, 0]
        return one_score(self.name, anomaly_map.amax(dim=(1, 2)), anomaly_map)
