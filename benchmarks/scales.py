"""The encoders whose features are measured, and random images and features of their shapes.

Random weights: the time is that of pretrained ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
from numpy.typing import NDArray

from aeflow.encoder.encoder import Encoder


@dataclass(frozen=True)
class Scale:
    """An encoder, how its features look, and how many images are handled at once."""

    architecture: str
    stage: int
    channels: int
    batch: int
    image_side: int = 256

    @property
    def name(self) -> str:
        """The encoder and (C, h, w) of its features."""
        encoder = self.architecture.removeprefix("tf_")
        return f"{encoder}, {self.channels}x{self.side}x{self.side}"

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

    def features(self, count: int) -> NDArray[np.float16]:
        """Return features as they lie in the cache, (count, h, w, C)."""
        shape = (count, self.side, self.side, self.channels)
        return np.random.default_rng(1).standard_normal(shape, np.float32).astype(np.float16)


def scales(quick: bool) -> list[Scale]:
    """Return the scales: two of a small encoder, and the paper's; a tiny one for `quick`."""
    if quick:
        return [Scale("tf_efficientnet_lite0", 3, 112, batch=2, image_side=64)]
    return [
        Scale("tf_efficientnet_lite0", 4, 320, batch=32),
        Scale("tf_efficientnet_lite0", 3, 112, batch=32),
        Scale("wide_resnet50_2", 3, 1024, batch=16),
    ]
