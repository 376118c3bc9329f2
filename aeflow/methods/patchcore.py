"""PatchCore (Roth et al. 2022): anomalib's coreset, distances and weights on one feature map."""

import sys
from contextlib import redirect_stderr
from io import StringIO

import torch
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import Tensor

from aeflow.core.errors import TrainingError
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import Fitted, Rows, Scored, batches
from aeflow.study.settings import TrainingSettings

# Share of the training positions that is kept. anomalib's 0.1 takes ten times as long (hours on
# a CPU, for a thousand images); the paper reports both.
CORESET = 0.01


class Patchcore:
    """A memory of the training positions' features, on the source's device.

    The coreset is chosen by exact distances. anomalib's own random projection for that choice is
    left out: it is not seeded, and widens features of fewer than about 300 channels.
    """

    def __init__(self, source: FeatureSource, training: TrainingSettings) -> None:
        self._source, self._batch = source, training.batch_size
        # The backbone is never used: what it would make comes from the source.
        self.model = PatchcoreModel(["layer1"], backbone="resnet18", pre_trained=False)
        self.model = self.model.to(source.device).eval()
        self._side = source.side * source.stride

    def embedding(self, rows: Rows) -> Tensor:
        """Return features averaged over 3 x 3 positions, (B * h * w, C)."""
        pooled = self.model.feature_pooler(self._source.features(rows).contiguous())
        embedding: Tensor = self.model.reshape_embedding(pooled)
        return embedding

    @torch.inference_mode()
    def fit(self, train: Rows, validation: Rows, seed: int) -> Fitted:
        """Choose the memory; it has no epochs.

        Raises:
            TrainingError: the coreset would have fewer than two positions.
        """
        embedding = torch.cat([self.embedding(rows) for rows in batches(train, self._batch)])
        if int(len(embedding) * CORESET) < 2:
            raise TrainingError(
                f"PatchCore keeps {CORESET:.0%} of {len(embedding)} positions, and needs two or "
                "more: use more training images or an earlier encoder.stage."
            )
        # With a third axis, distances are those of the features themselves.
        coreset = KCenterGreedy(embedding[..., None], CORESET)
        if sys.stderr.isatty():
            chosen = coreset.select_coreset_idxs()
        else:  # its progress bar does not know a log from a terminal
            with redirect_stderr(StringIO()):
                chosen = coreset.select_coreset_idxs()
        self.model.memory_bank = embedding[chosen]
        return Fitted(self.model.memory_bank.numel())

    @torch.inference_mode()
    def distances(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return distances to the memory, (B, h, w), and the weighted largest of each, (B,)."""
        embedding = self.embedding(rows)
        nearest, where = self.model.nearest_neighbors(embedding, n_neighbors=1)
        nearest, where = nearest.reshape(len(rows), -1), where.reshape(len(rows), -1)
        pred_score = self.model.compute_anomaly_score(nearest, where, embedding)
        return nearest.reshape(len(rows), self._source.side, -1), pred_score

    @torch.inference_mode()
    def score(self, rows: Rows) -> Scored:
        """Return the distances, enlarged and smoothed, and the score of `distances`."""
        distances, pred_score = self.distances(rows)
        size = (self._side, self._side)
        anomaly_map = self.model.anomaly_map_generator(distances[:, None], size)[:, 0]
        return Scored(pred_score, anomaly_map)
