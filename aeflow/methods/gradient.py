"""The trivial baseline: one number per image, and what compressing it costs. Without torch."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aeflow.core.types import GradientScore
from aeflow.methods.method import BatchScores, Rows, Scorer

# ITU-R BT.601, as Pillow converts to gray.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_PNG_LEVEL = 6  # zlib's default: a number that stays, whatever Pillow's becomes


def mean_absolute_gradient(image: NDArray[np.uint8]) -> float:
    """Return mean |I(y + 1, x) - I(y, x)| of an image's luma, (H, W, 3) uint8, in gray levels."""
    luma = image @ LUMA
    return float(np.abs(np.diff(luma, axis=0)).mean())


def compressed_bits(image: NDArray[np.uint8]) -> float:
    """Return the size of the image's PNG in bits per value, (H, W, 3) uint8.

    PNG predicts each pixel from its neighbours and packs the rest with zlib, one of the
    compressors of Serrà et al. 2020, "Input complexity and out-of-distribution detection with
    likelihood-based generative models". About 0 (one colour) to a little over 8 (noise).
    """
    packed = BytesIO()
    Image.fromarray(np.asarray(image)).save(packed, "png", compress_level=_PNG_LEVEL)
    return 8 * packed.tell() / image.size


class Detector(Scorer):
    """The mean absolute vertical gradient, as it is and negated, of images (N, H, W, 3).

    `compressed_bits` is no anomaly score: with the gradient it is what is known of an image's
    complexity.
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = images

    def score(self, rows: Rows) -> BatchScores:
        """Return the three numbers of each image, one image in memory at a time."""
        found = [(mean_absolute_gradient(i), compressed_bits(i)) for i in self._images[rows]]
        gradient, bits = np.array(found, dtype=np.float64).reshape(-1, 2).T
        names = (GradientScore.HIGH_GRADIENT.value, GradientScore.LOW_GRADIENT.value)
        components = dict(zip(names, (gradient, -gradient), strict=True))
        return BatchScores({**components, "compressed_bits": bits}, {}, {}, None)
