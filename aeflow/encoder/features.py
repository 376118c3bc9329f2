"""Features of the frozen encoder: extracted once, read by every training; or on the fly."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import atomic_path
from aeflow.data.prepared import open_array
from aeflow.encoder.encoder import Encoder, load_encoder, stride_of
from aeflow.study.settings import FitSettings

logger = logging.getLogger(__name__)
GIB = 2**30
BATCH = 16


class Shape(NamedTuple):
    """Of a stage's features: (B, channels, side, side), of images of side * stride pixels."""

    channels: int
    side: int
    stride: int


class FeatureSource:
    """Images and their features by row, on a device.

    Features come from the cache, or from the encoder, rounded to half precision like the cache:
    the same numbers either way, up to the order of sums in batches of another size. A fine-tuned
    encoder's features are not rounded.

    Attributes:
        shapes: stage -> shape of its features, the finest first.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        device: torch.device,
        cache: NDArray[np.void] | None = None,
        encoder: Encoder | None = None,
        normalise: str = "none",
    ) -> None:
        self._images, self._cache, self._normalise = images, cache, normalise
        self.device, self.encoder = device, encoder
        self.image_side = images.shape[1]
        if cache is not None:
            channels = {int(name): cache.dtype[name].shape[2] for name in cache.dtype.names or ()}
        else:
            assert encoder is not None, "either a cache or an encoder"
            channels = dict(zip(encoder.stages, encoder.channels, strict=True))
        self.shapes = {
            stage: Shape(number, self.image_side // stride_of(stage), stride_of(stage))
            for stage, number in channels.items()
        }

    @property
    def side(self) -> int:
        """Side of the finest stage's features."""
        return next(iter(self.shapes.values())).side

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """Return images in [0, 1], (B, 3, H, W), channels last."""
        pixels = torch.from_numpy(self._images[rows]).to(self.device, non_blocking=True)
        return pixels.permute(0, 3, 1, 2).float() / 255

    def features(self, rows: NDArray[np.int64], images: Tensor | None = None) -> dict[int, Tensor]:
        """Return the features z of `rows`, stage -> (B, C, h, w), float32, normalised.

        Their `images` are read if they are not given and there is no cache.
        """
        found = self.raw_features(rows, images)
        return {stage: normalised(z, self._normalise) for stage, z in found.items()}

    def raw_features(
        self, rows: NDArray[np.int64], images: Tensor | None = None
    ) -> dict[int, Tensor]:
        """Return features as `features`, as they come from the encoder."""
        if self._cache is not None:
            return {stage: self._cached(str(stage), rows) for stage in self.shapes}
        assert self.encoder is not None
        images = self.images(rows) if images is None else images
        if self.encoder.finetune:
            return dict(zip(self.shapes, (z.float() for z in self.encoder(images)), strict=True))
        with torch.autocast(self.device.type, enabled=False):  # as the cache was made
            maps = self.encoder(images)
        return dict(zip(self.shapes, (z.half().float() for z in maps), strict=True))

    def _cached(self, stage: str, rows: NDArray[np.int64]) -> Tensor:
        assert self._cache is not None
        cached = torch.from_numpy(self._cache[stage][rows]).to(self.device, non_blocking=True)
        return cached.permute(0, 3, 1, 2).float()

    def one_map(self, rows: NDArray[np.int64], mode: str) -> Tensor:
        """Return the features of all stages as one map, (B, sum of C, h, w).

        Those of coarser stages are enlarged to the finest one's side, `nearest` or `bilinear`.
        """
        maps = list(self.features(rows).values())
        size = maps[0].shape[2:]
        return torch.cat([maps[0], *(F.interpolate(z, size, mode=mode) for z in maps[1:])], 1)


def normalised(z: Tensor, how: str) -> Tensor:
    """Return features (B, C, h, w) as `features.normalise` asks; vectors of zeros stay zeros."""
    match how:
        case "position":
            return z / _root(z.square().mean(1, keepdim=True))
        case "image":
            return z / _root(z.square().mean((1, 2, 3), keepdim=True))
        case "instance":
            variance, mean = torch.var_mean(z, (2, 3), correction=0, keepdim=True)
            return (z - mean) / _root(variance)
    return z


def _root(squares: Tensor) -> Tensor:
    """Return square roots, at least a number below half precision's steps at 1."""
    return squares.sqrt().clamp(min=1e-4)


def open_features(
    images: NDArray[np.uint8],
    settings: FitSettings,
    device: torch.device,
    features: Path,
    weights: Path,
    stages: Sequence[int],
) -> FeatureSource:
    """Return the source of the features of `images` that a training or a scoring needs.

    The cache is read unless it is empty (too large for the configured limit) or the encoder is
    fine-tuned; the encoder is built only in those cases.

    Raises:
        DataError: a file is missing or damaged, or the cache does not belong to the images.
    """
    cache, encoder, normalise = open_array(features), settings.encoder, settings.features.normalise
    if len(cache) and not encoder.finetune:
        if cache.dtype.names != tuple(map(str, stages)):
            raise DataError(
                f"{features} holds other features than of encoder.stages "
                f"{', '.join(map(str, stages))}: run extract_features again."
            )
        if len(cache) != len(images):
            raise DataError(
                f"{features} holds {len(cache)} images, the prepared array {len(images)}: run "
                "extract_features again."
            )
        return FeatureSource(images, device, cache=cache, normalise=normalise)
    built = load_encoder(weights, stages, encoder.finetune)
    built = built.to(device).to(memory_format=torch.channels_last)
    return FeatureSource(images, device, encoder=built, normalise=normalise)


def extract_features(
    images: NDArray[np.uint8], encoder: Encoder, device: torch.device, max_gib: float, out: Path
) -> dict[str, object]:
    """Write the features of all images and return their description.

    An .npy file with a record per image, which has a field of float16 (h, w, C) per stage, called
    by its number. Channels are last, as the convolutions of the training want them. Features that
    would exceed `max_gib` are not written: `out` then holds no rows, and `cached` is false.

    Raises:
        ConfigError: the maps are not as large as the encoder's stride says.
        DataError: a feature is beyond the range of half precision.
    """
    source = FeatureSource(images, device, encoder=encoder)
    row = row_type(source)
    gib = len(images) * row.itemsize / GIB
    cached = gib <= max_gib
    if not cached:
        logger.info("features would take %.1f GiB, more than %.1f: not cached", gib, max_gib)
    with torch.inference_mode():
        for stage, z in source.raw_features(np.arange(1)).items():
            height, width = z.shape[2:]
            if (height, width) != (source.shapes[stage].side,) * 2:
                raise ConfigError(
                    f"encoder.stages: maps of stage {stage} of images of {images.shape[1]} pixels "
                    f"are {height} x {width}, which is not the side divided by the stride "
                    f"{stride_of(stage)}: choose another stage, or a data.image_size that is a "
                    "multiple of its stride."
                )
    rows_written = len(images) if cached else 0
    header = {
        "descr": np.lib.format.dtype_to_descr(row),
        "fortran_order": False,
        "shape": (rows_written,),
    }
    # Plain writes, not a memory map: a full disk is then an error and not a fatal signal.
    with atomic_path(out) as part, part.open("wb") as file, torch.inference_mode():
        np.lib.format.write_array_header_1_0(file, header)
        steps = range(0, rows_written, BATCH)
        for start in tqdm(steps, "features", disable=None, unit="batch"):
            rows = np.arange(start, min(start + BATCH, rows_written))
            file.write(encode(source, rows).data)
    shapes = {str(stage): list(row[str(stage)].shape) for stage in source.shapes}
    logger.info("%d images, features (h, w, C) = %s, %.2f GiB", len(images), shapes, gib)
    return {"cached": cached, "shapes": shapes, "images": len(images)}


def row_type(source: FeatureSource) -> np.dtype[np.void]:
    """Return the type of a record of the cache: a field of float16 (h, w, C) per stage."""
    fields = source.shapes.items()
    return np.dtype([(str(stage), "<f2", (s.side, s.side, s.channels)) for stage, s in fields])


def encode(source: FeatureSource, rows: NDArray[np.int64]) -> NDArray[np.void]:
    """Return the records of some images; DataError: a feature is beyond half precision."""
    block = np.empty(len(rows), row_type(source))
    for stage, z in source.raw_features(rows).items():
        if not z.isfinite().all():
            raise DataError(
                f"Features of images {rows[0]} to {rows[-1]} are beyond the range of half "
                "precision: choose other encoder.stages or another encoder.name."
            )
        block[str(stage)] = z.permute(0, 2, 3, 1).half().cpu().numpy()
    return block
