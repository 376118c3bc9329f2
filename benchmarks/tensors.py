"""Features, a training step, scoring: on cached features, against the encoder in the loop.

Random weights and images: the time is that of pretrained ones.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import FrEIA.framework
import FrEIA.modules
import numpy as np
import pandas as pd
import timm
import torch
from numpy.typing import NDArray
from torch import nn

from aeflow.core.types import Method
from aeflow.data.prepared import Prepared
from aeflow.encoder.encoder import Encoder
from aeflow.encoder.features import FeatureSource, extract_features
from aeflow.methods.aeflow import Detector
from aeflow.models.decoder import Decoder
from aeflow.models.flow import conv_subnet
from aeflow.models.losses import flow_nll
from aeflow.scoring.score_images import score_images
from aeflow.study.settings import EvaluationSettings, FitSettings, TrainingSettings
from aeflow.training.adam import Adam
from aeflow.training.devices import set_up
from benchmarks.measure import Action, Measurement, compare, threads

SETTINGS = FitSettings()


@dataclass(frozen=True)
class Scale:
    """An encoder, its features, and how many images are handled at once."""

    architecture: str
    stage: int
    channels: int
    batch: int
    image_side: int = 256

    @property
    def stride(self) -> int:
        """Stride of the features."""
        return int(2 ** (self.stage + 1))

    @property
    def side(self) -> int:
        """Side of the features."""
        return self.image_side // self.stride

    def encoder(self) -> Encoder:
        """Return the encoder."""
        body: Any = timm.create_model(
            self.architecture, features_only=True, out_indices=(self.stage,)
        )
        return Encoder(body, self.channels, self.stride)

    def images(self, count: int) -> NDArray[np.uint8]:
        """Return images, (count, H, W, 3)."""
        shape = (count, self.image_side, self.image_side, 3)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def source(self, count: int, cached: bool = True) -> FeatureSource:
        """Return images, with random features in a cache or with the encoder."""
        device = set_up(TrainingSettings(threads=threads(), device="cpu"))
        if not cached:
            encoder = self.encoder().to(memory_format=torch.channels_last)
            return FeatureSource(self.images(count), device, encoder=encoder)
        shape = (count, self.side, self.side, self.channels)
        features = np.random.default_rng(1).standard_normal(shape, np.float32)
        return FeatureSource(self.images(count), device, cache=features.astype(np.float16))


# Two of a small encoder, and the paper's.
SCALES = (
    Scale("tf_efficientnet_lite0", 4, 320, batch=32),
    Scale("tf_efficientnet_lite0", 3, 112, batch=32),
    Scale("wide_resnet50_2", 3, 1024, batch=16),
)
TINY = Scale("tf_efficientnet_lite0", 3, 112, batch=2, image_side=64)


def measure(quick: bool) -> list[Measurement]:
    """Measure the three at each scale."""
    found = []
    with TemporaryDirectory() as name:
        for scale in [TINY] if quick else SCALES:
            ours = partial(extract, scale, Path(name, "ours.npy"))
            plain = partial(encode_one_by_one, scale, Path(name, "plain.npy"))
            topics = (
                ("features", ours, plain, 2),
                ("training step", partial(train, scale), partial(train_plainly, scale), 1),
                ("scoring", partial(score, scale), partial(score, scale, cached=False), 2),
            )
            shape = f"{scale.channels}x{scale.side}x{scale.side}"
            for topic, ours, plain, batches in topics:
                what = f"{topic}, {scale.architecture.removeprefix('tf_')}, {shape}"
                repeats, images = 1 if quick else 3, batches * scale.batch
                found.append(
                    compare(what, ours, plain, repeats=repeats, images=images, arithmetic=True)
                )
    return found


def extract(scale: Scale, out: Path) -> Action:
    """Return ours: `extract_features`."""
    device = set_up(TrainingSettings(threads=threads(), device="cpu"))
    images = scale.images(2 * scale.batch)
    encoder = scale.encoder().to(memory_format=torch.channels_last)
    return lambda: extract_features(images, encoder, device, np.inf, out)


def encode_one_by_one(scale: Scale, out: Path) -> Action:
    """Return the reference: one image at a time, memory format untouched."""
    torch.set_num_threads(threads())
    images, encoder = scale.images(2 * scale.batch), scale.encoder()

    @torch.no_grad()
    def action() -> None:
        features = []
        for image in images:
            x = torch.from_numpy(image).permute(2, 0, 1).contiguous().float() / 255
            features.append(encoder(x[None])[0].numpy())
        np.save(out, np.stack(features).astype(np.float16))

    return action


def train(scale: Scale) -> Action:
    """Return ours: a batch of the one loop over epochs, on cached features."""
    learner = Detector(scale.source(scale.batch), SETTINGS, Method.AEFLOW)
    learner.module.train()
    (update,) = learner.updates
    adam, rows = Adam(update), np.arange(scale.batch)

    def action() -> None:
        (parts,) = learner.losses(rows)
        adam.step(parts["loss"], 0.0, retain_graph=False)

    return action


def train_plainly(scale: Scale) -> Action:
    """Return the reference: encoder inside the loop, FrEIA's blocks, no memory format."""
    torch.set_num_threads(threads())
    images, encoder = scale.images(scale.batch), scale.encoder()
    flow = FrEIA.framework.SequenceINN(scale.channels, scale.side, scale.side)
    for _ in range(SETTINGS.flow.steps):
        flow.append(
            FrEIA.modules.AllInOneBlock,
            subnet_constructor=conv_subnet,
            affine_clamping=SETTINGS.flow.clamp,
        )
    decoder = Decoder(scale.channels, encoder.stride, SETTINGS.decoder)
    optimizer = torch.optim.Adam(
        [*flow.parameters(), *decoder.parameters()],
        lr=SETTINGS.training.lr,
        weight_decay=SETTINGS.training.weight_decay,
    )

    def action() -> None:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
        with torch.no_grad():
            z = encoder(x)
        latent, log_det = flow(z)
        loss = 0.5 * flow_nll(latent, log_det).mean()
        loss = loss + 0.5 * nn.functional.mse_loss(decoder(latent), x)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return action


def score(scale: Scale, cached: bool = True) -> Action:
    """Return ours, `score_images`; the reference does not find features in a cache."""
    count = 2 * scale.batch
    learner = Detector(scale.source(count, cached), SETTINGS, Method.AEFLOW)
    learner.module.eval()
    index = pd.DataFrame(
        {
            "image_id": [str(number) for number in range(count)],
            "split": "test",
            "gt_label": np.arange(count) % 2,
            "defect": "none",
        }
    )
    no_masks = np.empty((0, scale.image_side, scale.image_side), np.uint8)
    prepared = Prepared(scale.images(count), index, no_masks)
    return lambda: score_images(prepared, learner, EvaluationSettings().fpr_limit)
