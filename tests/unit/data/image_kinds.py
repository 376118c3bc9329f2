"""Image files of every kind but DICOM, written by the tests."""

import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

SIDE = 32
SHALLOW = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM", "JPEG2000")
Array = NDArray[Any]


def tiff(values: Array, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **{"photometric": "minisblack", **options})
    return file.getvalue()


def deep(bits: int, channels: int = 1) -> Array:
    """Every level of so many bits that fits in, the lowest and the highest among them."""
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits, (SIDE, SIDE, channels), dtype=np.uint16)
    values[0, 0], values[-1, -1] = 0, 2**bits - 1
    return values.squeeze()


def to_big(values: Array) -> bytes:
    return values.astype(">u2").tobytes()


DEEP: dict[str, Callable[[Array], bytes]] = {
    "png": imagecodecs.png_encode,
    "tiff": lambda v: tiff(v, photometric="minisblack" if v.ndim == 2 else "rgb"),
    "jp2": lambda values: imagecodecs.jpeg2k_encode(values, level=0),
    "j2k": lambda values: imagecodecs.jpeg2k_encode(values, level=0, codecformat="J2K"),
    "jls": imagecodecs.jpegls_encode,
    "ljpg": lambda values: imagecodecs.jpeg_encode(values, bitspersample=16, lossless=True),
    "ppm": lambda v: b"P%d 32 32 65535\n" % (5 if v.ndim == 2 else 6) + to_big(v),
}
