"""Features of the frozen encoder: extracted once, read by every training; or on the fly."""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import atomic_path
from aeflow.data.prepared import open_array
from aeflow.encoder.encoder import Encoder, load_encoder
from aeflow.study.settings import EncoderSettings

logger = logging.getLogger(__name__)
GIB = 2**30
BATCH = 16


class FeatureSource:
    """Images and their features by row, on a device.

    Features come from the cache, or from the encoder, rounded to half precision like the cache:
    the same numbers either way, up to the order of sums in batches of another size. A fine-tuned
    encoder's features are not rounded.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        device: torch.device,
        cache: NDArray[np.float16] | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self._images, self._cache = images, cache
        self.device, self.encoder = device, encoder
        if cache is not None:
            self.channels, self.stride = cache.shape[3], images.shape[1] // cache.shape[1]
        else:
            assert encoder is not None, "either a cache or an encoder"
            self.channels, self.stride = encoder.channels, encoder.stride
        self.image_side = images.shape[1]
        self.side = self.image_side // self.stride

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """Return images in [0, 1], (B, 3, H, W), channels last."""
        pixels = torch.from_numpy(self._images[rows]).to(self.device, non_blocking=True)
        return pixels.permute(0, 3, 1, 2).float() / 255

    def features(self, rows: NDArray[np.int64], images: Tensor | None = None) -> Tensor:
        """Return the features z of `rows`, (B, C, h, w), float32.

        Their `images` are read if they are not given and there is no cache.
        """
        if self._cache is not None:
            cached = torch.from_numpy(self._cache[rows]).to(self.device, non_blocking=True)
            return cached.permute(0, 3, 1, 2).float()
        assert self.encoder is not None
        images = self.images(rows) if images is None else images
        if self.encoder.finetune:
            z: Tensor = self.encoder(images)
            return z.float()
        with torch.autocast(self.device.type, enabled=False):  # as the cache was made
            z = self.encoder(images)
        return z.half().float()


def open_features(
    images: NDArray[np.uint8],
    settings: EncoderSettings,
    device: torch.device,
    features: Path,
    weights: Path,
) -> FeatureSource:
    """Return the source of the features of `images` that a training or a scoring needs.

    The cache is read unless it is empty (too large for the configured limit) or the encoder is
    fine-tuned; the encoder is built only in those cases.

    Raises:
        DataError: a file is missing or damaged, or the cache does not belong to the images.
    """
    cache = open_array(features)
    if len(cache) and not settings.finetune:
        if len(cache) != len(images):
            raise DataError(
                f"{features} holds {len(cache)} images, the prepared array {len(images)}: run "
                "extract_features again."
            )
        return FeatureSource(images, device, cache=cache.view(np.float16))
    encoder = load_encoder(weights, settings.stage, settings.finetune)
    encoder = encoder.to(device).to(memory_format=torch.channels_last)
    return FeatureSource(images, device, encoder=encoder)


def extract_features(
    images: NDArray[np.uint8], encoder: Encoder, device: torch.device, max_gib: float, out: Path
) -> dict[str, object]:
    """Write the features of all images, float16 (N, h, w, C), and return their description.

    Channels are last, as the convolutions of the training want them. Features that would exceed
    `max_gib` are not written: `out`, an .npy file, then holds no rows, and `cached` is false.

    Raises:
        ConfigError: the maps are not as large as the encoder's stride says.
        DataError: a feature is beyond the range of half precision.
    """
    side = images.shape[1] // encoder.stride
    shape = (len(images), side, side, encoder.channels)
    gib = 2 * float(np.prod(shape, dtype=np.float64)) / GIB
    cached = gib <= max_gib
    if not cached:
        logger.info("features would take %.1f GiB, more than %.1f: not cached", gib, max_gib)
        shape = (0, *shape[1:])
    source = FeatureSource(images, device, encoder=encoder)
    with torch.inference_mode():
        found = source.features(np.arange(1)).shape[2:]
    if found != (side, side):
        raise ConfigError(
            f"encoder.stage: maps of images of {images.shape[1]} pixels are {found[0]} x "
            f"{found[1]}, which is not the side divided by the stride {encoder.stride}: choose "
            "another stage, or a data.image_size that is a multiple of its stride."
        )
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    # Plain writes, not a memory map: a full disk is then an error and not a fatal signal.
    with atomic_path(out) as part, part.open("wb") as file, torch.inference_mode():
        np.lib.format.write_array_header_1_0(file, header)
        for start in tqdm(range(0, shape[0], BATCH), "features", disable=None, unit="batch"):
            rows = np.arange(start, min(start + BATCH, shape[0]))
            z = source.features(rows)
            if not z.isfinite().all():
                raise DataError(
                    f"Features of images {rows[0]} to {rows[-1]} are beyond the range of half "
                    "precision: choose another encoder.stage or encoder.name."
                )
            file.write(z.permute(0, 2, 3, 1).half().cpu().contiguous().numpy().data)
    logger.info("%d images, features (h, w, C) = %s, %.2f GiB", len(images), shape[1:], gib)
    return {"cached": cached, "shape": list(shape[1:]), "images": len(images)}
