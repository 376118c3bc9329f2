"""PatchCore (Roth et al. 2022): anomalib's coreset, distances and weights."""

import math
import sys
from contextlib import redirect_stderr
from io import StringIO

import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import Tensor

from aeflow.core.errors import TrainingError
from aeflow.core.types import Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import BatchScores, Learner, Rows, batches, one_score
from aeflow.study.settings import FitSettings


class Detector(Learner):
    """A memory of the training positions' features, on the source's device.

    The coreset is chosen by exact distances. anomalib's own random projection for that choice is
    left out: it is not seeded, and widens features of fewer than about 300 channels.
    """

    def __init__(self, source: FeatureSource, settings: FitSettings, method: Method) -> None:
        self._source, self._batch, self.name = source, settings.training.batch_size, method.value
        self._kept = settings.patchcore.coreset
        model = PatchcoreModel(["layer1"], backbone="resnet18", pre_trained=False)
        self.module = model.to(source.device).eval()
        self._map = self.module.anomaly_map_generator
        # Only the memory is left. What a backbone would make comes from the source.
        del self.module.feature_extractor, self.module.anomaly_map_generator

    def embedding(self, rows: Rows) -> Tensor:
        """Return features averaged over 3 x 3 positions, (B * h * w, C)."""
        pooled = self.module.feature_pooler(self._source.one_map(rows, "bilinear").contiguous())
        embedding: Tensor = self.module.reshape_embedding(pooled)
        return embedding

    @torch.no_grad()
    def fit(self, train: Rows) -> None:
        """Choose the memory; TrainingError: it would have fewer than two positions."""
        embedding = torch.cat([self.embedding(rows) for rows in batches(train, self._batch)])
        if int(len(embedding) * self._kept) < 2:
            each = len(embedding) // len(train)
            enough = math.ceil(2 / self._kept / each)
            raise TrainingError(
                f"PatchCore keeps {self._kept:.0%} of the positions and needs to keep two, but "
                f"{len(train)} training normals have {each} each: use {enough} "
                "normal images or more, or an earlier stage in encoder.stages."
            )
        # With a third axis, distances are those of the features themselves.
        coreset = KCenterGreedy(embedding[..., None], self._kept)
        # Its progress bar does not know a log from a terminal.
        with redirect_stderr(sys.stderr if sys.stderr.isatty() else StringIO()):
            self.module.memory_bank = embedding[coreset.select_coreset_idxs()]

    @torch.inference_mode()
    def score(self, rows: Rows) -> BatchScores:
        """Return the distances to the memory, enlarged and smoothed, and the largest, weighted."""
        embedding = self.embedding(rows)
        nearest, where = self.module.nearest_neighbors(embedding, n_neighbors=1)
        nearest, where = nearest.reshape(len(rows), -1), where.reshape(len(rows), -1)
        pred_score = self.module.compute_anomaly_score(nearest, where, embedding)
        distances = nearest.reshape(len(rows), 1, self._source.side, -1)
        size = (self._source.image_side,) * 2
        anomaly_map = self._map(distances, size)[:, 0]
        return one_score(self.name, pred_score, anomaly_map)
