"""Features, a training step, scoring: on cached features, against the encoder in the loop.

Random weights and images: the time is that of pretrained ones.
"""

from collections.abc import Sequence
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
from aeflow.methods.method import batches
from aeflow.models.decoder import Decoder
from aeflow.models.flow import conv_subnet
from aeflow.models.losses import flow_nll
from aeflow.scoring.score_images import BATCH, score_images
from aeflow.study.settings import (
    EncoderSettings,
    EvaluationSettings,
    FitSettings,
    TrainingSettings,
)
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

    def encoder(self, stages: Sequence[int] = ()) -> Encoder:
        """Return the encoder, of its stage or of others."""
        chosen = tuple(stages) or (self.stage,)
        body: Any = timm.create_model(self.architecture, features_only=True, out_indices=chosen)
        return Encoder(body, chosen, body.feature_info.channels())

    def settings(self, precision: str = "float32") -> FitSettings:
        """Return the paper's, on this scale."""
        how = {"encoder": {"stages": [self.stage]}, "training": {"precision": precision}}
        return FitSettings.model_validate(how)

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
        features = np.empty(
            count, [(str(self.stage), "<f2", (self.side, self.side, self.channels))]
        )
        field = features[str(self.stage)]
        field[...] = np.random.default_rng(1).standard_normal(field.shape, np.float32)
        return FeatureSource(self.images(count), device, cache=features)

    @property
    def name(self) -> str:
        """Encoder and shape of its features."""
        shape = f"{self.channels}x{self.side}x{self.side}"
        return f"{self.architecture.removeprefix('tf_')}, {shape}"


# Two of a small encoder, and the paper's.
SCALES = (
    Scale("tf_efficientnet_lite0", 4, 320, batch=32),
    Scale("tf_efficientnet_lite0", 3, 112, batch=32),
    Scale("wide_resnet50_2", 3, 1024, batch=16),
)
STAGES = (2, 3, 4)
TINY = Scale("tf_efficientnet_lite0", 3, 112, batch=2, image_side=64)


def measure(quick: bool) -> list[Measurement]:
    """Measure features, training and scoring at each scale, then Gaussians and three stages."""
    found = []
    repeats = 1 if quick else 3
    with TemporaryDirectory() as name:
        for scale in [TINY] if quick else SCALES:
            extraction = partial(extract, scale, Path(name, "ours.npy"))
            one_by_one = partial(encode_one_by_one, scale, Path(name, "plain.npy"))
            step, half = partial(train, scale), partial(train, scale, "auto")
            reference = partial(train_plainly, scale)
            for topic, ours, plain, count in (
                ("features", extraction, one_by_one, 2),
                ("training step", step, reference, 1),
                ("training step, precision auto", half, reference, 1),
                ("training step, auto beside float32", half, step, 1),
                ("scoring", partial(score, scale), partial(score, scale, cached=False), 2),
            ):
                what, images = f"{topic}, {scale.name}", count * scale.batch
                found.append(
                    compare(what, ours, plain, repeats=repeats, images=images, arithmetic=True)
                )
        scale, many = (TINY, 8) if quick else (SCALES[1], 512)
        one_pass = partial(extract, scale, Path(name, "ours.npy"), STAGES)
        in_turn = partial(extract_in_turn, scale, Path(name, "plain.npy"))
        anomalib = partial(detect_with_anomalib, scale)
        for topic, alone, beside, images in (
            ("Gaussian, fit", partial(fit_gaussian, scale, many), None, many),
            ("Gaussian, fit and score", partial(use_gaussian, scale, many), None, many),
            ("features of stages 2, 3 and 4", one_pass, in_turn, 2 * scale.batch),
            ("image to map, stages 2, 3 and 4", partial(detect, scale), anomalib, scale.batch),
        ):
            what = f"{topic}, {scale.name}"
            found.append(compare(what, alone, beside, repeats=repeats, images=images))
    return found


def gaussian(source: FeatureSource, stages: Sequence[int], maps: bool = True) -> Detector:
    """Return a detector of Gaussians, not fitted yet."""
    settings = FitSettings(encoder=EncoderSettings(stages=list(stages)))
    learner = Detector(source, settings, Method.GAUSSIAN)
    learner.top_shares, learner.maps = [0.01], ["energy"] if maps else []
    return learner


def fit_gaussian(scale: Scale, count: int) -> Action:
    """Return the fit to cached features."""
    source = scale.source(count)
    return lambda: gaussian(source, [scale.stage]).fit(np.arange(count))


def use_gaussian(scale: Scale, count: int) -> Action:
    """Return the fit to cached features, and the scores of the same images, without maps."""
    source = scale.source(count)

    def action() -> None:
        learner = gaussian(source, [scale.stage], maps=False)
        learner.fit(np.arange(count))
        learner.module.eval()
        for rows in batches(np.arange(count), BATCH):
            learner.score(rows)

    return action


def detect(scale: Scale) -> Action:
    """Return ours: images to anomaly maps and scores by three Gaussians, with the encoder."""
    device = set_up(TrainingSettings(threads=threads(), device="cpu"))
    encoder = scale.encoder(STAGES).to(memory_format=torch.channels_last)
    learner = gaussian(FeatureSource(scale.images(scale.batch), device, encoder=encoder), STAGES)
    learner.module.eval()

    def action() -> None:
        learner.score(np.arange(scale.batch))

    return action


def detect_with_anomalib(scale: Scale) -> Action:
    """Return the reference: anomalib's PaDiM with the same backbone and stages."""
    from anomalib.models.image.padim.torch_model import PadimModel  # 8 s: in this process alone

    torch.set_num_threads(threads())
    how: Any = {"layers": list(STAGES), "pre_trained": False, "n_features": 100}
    model = PadimModel(scale.architecture, **how).eval()
    positions = (scale.image_side // 8) ** 2
    model.gaussian.mean = torch.zeros(100, positions)
    model.gaussian.inv_covariance = torch.eye(100).repeat(positions, 1, 1)
    images = torch.from_numpy(scale.images(scale.batch)).permute(0, 3, 1, 2).contiguous()

    @torch.inference_mode()
    def action() -> None:
        model(images.float() / 255)

    return action


def extract_in_turn(scale: Scale, out: Path) -> Action:
    """Return the reference: a pass of the encoder for each stage."""
    actions = [extract(scale, out, [stage]) for stage in STAGES]

    def action() -> None:
        for each in actions:
            each()

    return action


def extract(scale: Scale, out: Path, stages: Sequence[int] = ()) -> Action:
    """Return ours: `extract_features`."""
    device = set_up(TrainingSettings(threads=threads(), device="cpu"))
    images = scale.images(2 * scale.batch)
    encoder = scale.encoder(stages).to(memory_format=torch.channels_last)
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
            features.append(encoder(x[None])[0][0].numpy())
        np.save(out, np.stack(features).astype(np.float16))

    return action


def train(scale: Scale, precision: str = "float32") -> Action:
    """Return ours: a batch of the one loop over epochs, on cached features."""
    learner = Detector(scale.source(scale.batch), scale.settings(precision), Method.AEFLOW)
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
    decoder = Decoder(scale.channels, scale.stride, SETTINGS.decoder)
    optimizer = torch.optim.Adam(
        [*flow.parameters(), *decoder.parameters()],
        lr=SETTINGS.training.lr,
        weight_decay=SETTINGS.training.weight_decay,
    )

    def action() -> None:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
        with torch.no_grad():
            (z,) = encoder(x)
        latent, log_det = flow(z)
        loss = 0.5 * flow_nll(latent, log_det[:, None, None]).mean()
        loss = loss + 0.5 * nn.functional.mse_loss(decoder(latent), x)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return action


def score(scale: Scale, cached: bool = True) -> Action:
    """Return ours, `score_images`; the reference does not find features in a cache."""
    count = 2 * scale.batch
    learner = Detector(scale.source(count, cached), scale.settings(), Method.AEFLOW)
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
