"""Feature extraction: the frozen encoder over all images, into the cache."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from aeflow.encoder.features import extract_features
from aeflow.study.settings import TrainingSettings
from aeflow.training.devices import set_up
from benchmarks.comparison import Measurement, compare, threads
from benchmarks.quantities import Action
from benchmarks.scales import Scale, scales


def measure(quick: bool) -> list[Measurement]:
    """Measure `extract_features` against calling the encoder image by image."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        return [
            compare(
                f"feature extraction, {scale.name}",
                partial(extract, scale, folder / "ours.npy"),
                partial(encode_one_by_one, scale, folder / "plain.npy"),
                repeats=1 if quick else 3,
                images=2 * scale.batch,
                arithmetic=True,
            )
            for scale in scales(quick)
        ]


def extract(scale: Scale, out: Path) -> Action:
    """Return ours."""
    device = set_up(TrainingSettings(threads=threads(), device="cpu"))
    images = scale.images(2 * scale.batch)
    encoder = scale.encoder().to(memory_format=torch.channels_last)
    return lambda: extract_features(images, encoder, device, np.inf, out)


def encode_one_by_one(scale: Scale, out: Path) -> Action:
    """Return the reference: one image at a time, memory format untouched."""
    torch.set_num_threads(threads())
    images = scale.images(2 * scale.batch)
    encoder = scale.encoder()

    @torch.no_grad()
    def action() -> None:
        features = []
        for image in images:
            x = torch.from_numpy(image).permute(2, 0, 1).contiguous().float() / 255
            features.append(encoder(x[None])[0].numpy())
        np.save(out, np.stack(features).astype(np.float16))

    return action
