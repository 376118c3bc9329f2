"""The whole of it: does a trained model tell anomalies from normals?"""

from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from aeflow.encoder.features import FeatureSource
from aeflow.models.aeflow import AEFlow
from aeflow.models.losses import flow_nll
from aeflow.training.trainer import Trainer
from tests.unit.tiny import tiny_settings


def test_it_learns_what_normal_looks_like(tmp_path: Path) -> None:
    """Normals are smooth blobs; anomalies are the same pixels in random order.

    Both have the same energy before training, so that nothing but what was learnt tells them
    apart.
    """
    draw = np.random.default_rng(1)
    y, x = np.mgrid[0:8, 0:8]
    centre, width = draw.uniform(1, 7, (2, 160, 1, 1)), draw.uniform(6, 20, (160, 1, 1))
    pictures = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / width)
    pictures[120:] = draw.permuted(pictures[120:].reshape(40, 64), axis=1).reshape(40, 8, 8)
    blocks = 4 * pictures.reshape(160, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4) - 1
    pixels = (255 * pictures).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    images = np.repeat(pixels[..., None], 3, axis=3)
    features = blocks.reshape(160, 4, 4, 4).astype(np.float16)
    source = FeatureSource(images, torch.device("cpu"), cache=features)
    settings = tiny_settings(flow={"steps": 4}, training={"epochs": 40, "batch_size": 16})
    torch.manual_seed(0)
    model = AEFlow(4, 4, 8, settings.flow, settings.decoder)
    test = np.arange(80, 160)

    def auroc() -> float:
        with torch.no_grad():
            out = model.eval()(source.features(test, source.images(test)))
        return roc_auc_score(test >= 120, flow_nll(out.z, out.log_det))

    before = auroc()
    trainer = Trainer(model, source, settings, 0, tmp_path / "state", "x")
    trained = trainer.fit(np.arange(60), np.arange(60, 80))
    model.load_state_dict(trained.tensors)
    assert 0.3 < before < 0.7
    assert auroc() > 0.95
