"""MedMNIST's .npz files, read image by image: the largest would not fit into memory."""

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import IO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aeflow.core.errors import DataError
from aeflow.data.archives import is_hidden

SPLITS = {"train": "train", "val": "validation", "test": "test"}
MAX_ROWS = 10_000_000
MAX_SIDE = 4096
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def medmnist_pictures(
    files: ZipFile, classes: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield `<split>/<class>/<number>.png` and the pixels of every image of an .npz file.

    Args:
        files: Holds the .npz file.
        classes: Names of the labels 0, 1, ...

    Raises:
        DataError: there is not exactly one .npz file, an array is missing or damaged, not 8-bit,
            or has a label without a name. Nothing is ever unpickled.
    """
    names = [name for name in files.namelist() if name.endswith(".npz") and not is_hidden(name)]
    if len(names) != 1:
        raise DataError(f"{len(names)} .npz files instead of one")
    try:
        # An .npz file is a zip of .npy files.
        with files.open(names[0]) as stream, ZipFile(stream) as arrays:
            for key, split in SPLITS.items():
                yield from _one_split(arrays, key, split, classes)
    except (BadZipFile, KeyError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{names[0]} is no MedMNIST file, or damaged ({error})") from error


def _one_split(
    arrays: ZipFile, key: str, split: str, classes: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    with arrays.open(f"{key}_labels.npy") as stream:
        count, *rest = _shape(stream)
        labels = np.frombuffer(_read(stream, count * int(np.prod(rest))), np.uint8)
    if len(labels) != count or (count and labels.max() >= len(classes)):
        raise DataError(f"{key}_labels: not one of the {len(classes)} labels for each image")
    with arrays.open(f"{key}_images.npy") as stream:
        images, *shape = _shape(stream)
        gray = len(shape) == 2
        if images != count or not (gray or (len(shape) == 3 and shape[2] == 3)):
            raise DataError(f"{key}_images has the shape {(images, *shape)} for {count} labels")
        if max(shape) > MAX_SIDE:
            raise DataError(f"{key}_images has the shape {(images, *shape)}: too large")
        for number in tqdm(range(count), desc=f"Converting {split}", unit="image", disable=None):
            content = _read(stream, int(np.prod(shape)))
            folder = re.sub("[^a-z0-9]+", "_", classes[labels[number]].lower())
            pixels = np.frombuffer(content, np.uint8).reshape(shape)
            yield f"{split}/{folder}/{number:06}.png", pixels


def _shape(stream: IO[bytes]) -> tuple[int, ...]:
    """Read an .npy file's header; the rows follow."""
    version = np.lib.format.read_magic(stream)
    if version not in _READ_HEADER:
        raise ValueError(f"version {version} of the .npy format")
    shape, fortran, dtype = _READ_HEADER[version](stream)
    if dtype != np.uint8 or (fortran and len(shape) > 1) or not shape or shape[0] > MAX_ROWS:
        raise ValueError(f"an array of {dtype}, shape {shape}")
    return shape


def _read(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise EOFError("an array ends too early")
    return content
