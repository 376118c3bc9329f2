"""A training step: flow and decoder on cached features."""

from functools import partial
from pathlib import Path

import FrEIA.framework
import FrEIA.modules
import numpy as np
import torch
from torch import nn

from aeflow.core.types import Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.aeflow import Detector
from aeflow.models.decoder import Decoder
from aeflow.models.flow import conv_subnet
from aeflow.models.losses import flow_nll
from aeflow.study.settings import FitSettings, TrainingSettings
from aeflow.training.devices import set_up
from aeflow.training.state import State
from aeflow.training.trainer import Trainer
from benchmarks.comparison import Measurement, compare, threads
from benchmarks.quantities import Action
from benchmarks.scales import Scale, scales

SETTINGS = FitSettings()


def measure(quick: bool) -> list[Measurement]:
    """Measure a step of `Trainer` against one of a plain program of the same network."""
    return [
        compare(
            f"training step, {scale.name}",
            partial(train_on_features, scale),
            partial(train_on_images, scale),
            repeats=1 if quick else 5,
            images=scale.batch,
            arithmetic=True,
        )
        for scale in scales(quick)
    ]


def cached_source(scale: Scale, count: int) -> FeatureSource:
    """Return `count` images with cached features."""
    device = set_up(TrainingSettings(threads=threads(), device="cpu"))
    return FeatureSource(scale.images(count), device, cache=scale.features(count))


def build_detector(source: FeatureSource) -> Detector:
    """Return flow and decoder with all settings at their defaults."""
    return Detector(source, SETTINGS, Method.AEFLOW)


def train_on_features(scale: Scale) -> Action:
    """Return ours."""
    source = cached_source(scale, scale.batch)
    state = State(Path("never written"), "")
    trainer = Trainer(build_detector(source), SETTINGS.training, 0, state)
    rows = np.arange(scale.batch)
    return lambda: trainer.train_step(rows, 0.0, "in a benchmark")


def train_on_images(scale: Scale) -> Action:
    """Return the reference: encoder inside the loop, FrEIA's blocks, no memory format."""
    torch.set_num_threads(threads())
    images = scale.images(scale.batch)
    encoder = scale.encoder()
    flow = FrEIA.framework.SequenceINN(scale.channels, scale.side, scale.side)
    for _ in range(SETTINGS.flow.steps):
        flow.append(
            FrEIA.modules.AllInOneBlock,
            subnet_constructor=conv_subnet,
            affine_clamping=SETTINGS.flow.clamp,
        )
    decoder = Decoder(scale.channels, scale.stride, SETTINGS.decoder)
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
