"""Datasets that are no image files become some, once, right after their files were verified."""

import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import OrientationError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from aeflow.core.errors import DataError
from aeflow.core.files import require_space
from aeflow.data.archives import Member, is_hidden, open_zip, read_member, store
from aeflow.study.layouts import BratsConversion, Conversion, MedmnistConversion

logger = logging.getLogger(__name__)
Picture = tuple[str, NDArray[np.uint8]]  # path inside the new archive, pixels
# PNG is lossless at any level; the lowest is many times faster and hardly larger.
COMPRESSION = 1
SPLITS = {"train": "train", "val": "validation", "test": "test"}
MAX_ROWS = 10_000_000
MAX_SIDE = 4096
VOLUME = (
    r"(?:.*/)?(?P<case>BraTS2021_\d{5})/(?P=case)_(?P<kind>flair|seg|t1|t1ce|t2)\.nii(?:\.gz)?"
)
MAX_VOLUME_BYTES = 2**30
DAMAGED = (
    *(ImageFileError, HeaderDataError, OrientationError, WrapStructError),
    *(OSError, EOFError, MemoryError, TypeError, ValueError, zlib.error),
)


def convert_archive(conversion: Conversion, source: Path, target: Path) -> int:
    """Write the images that a dataset's files hold to a zip, one at a time.

    Its bytes depend on the files and on the version of Pillow alone.

    Returns:
        Number of images and masks written.

    Raises:
        DataError: the files are not what the conversion expects.
        NoSpaceError: less is free than the files take, which the images do too, more or less.
    """
    require_space(target.parent, source.stat().st_size, f"The images of {source.name}")
    with open_zip(source) as files, ZipFile(target, "w") as archive:
        if isinstance(conversion, MedmnistConversion):
            number = store(archive, map(_png, medmnist_pictures(files, conversion)))
        else:
            number = store(archive, map(_png, brats_pictures(files, conversion)))
    if not number:
        raise DataError("the files hold no image that the conversion would keep")
    return number


def _png(picture: Picture) -> Member:
    name, pixels = picture
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=COMPRESSION)
    return name, content.tell(), [content.getvalue()]


def medmnist_pictures(files: ZipFile, conversion: MedmnistConversion) -> Iterator[Picture]:
    """Yield `<split>/<class>/<number>.png` for every image of MedMNIST's .npz file.

    Image by image: the largest file would not fit into memory. Nothing is ever unpickled.

    Raises:
        DataError: there is not exactly one .npz file, an array is missing or damaged, not 8-bit,
            or has a label without a name.
    """
    names = [name for name in files.namelist() if name.endswith(".npz") and not is_hidden(name)]
    if len(names) != 1:
        raise DataError(f"{len(names)} .npz files instead of one")
    try:
        # An .npz file is a zip of .npy files.
        with files.open(names[0]) as stream, ZipFile(stream) as arrays:
            for key, split in SPLITS.items():
                yield from _medmnist_split(arrays, key, split, conversion.folders)
    except (BadZipFile, KeyError, RuntimeError, *DAMAGED) as error:  # an encrypted member, too
        raise DataError(f"{names[0]} is no MedMNIST file, or damaged ({error})") from error


def _medmnist_split(
    arrays: ZipFile, key: str, split: str, folders: list[str]
) -> Iterator[Picture]:
    with arrays.open(f"{key}_labels.npy") as stream:
        count, *rest = _shape(stream)
        labels = np.frombuffer(_read(stream, count), np.uint8)
    if rest not in ([], [1]) or (count and labels.max() >= len(folders)):
        raise DataError(f"{key}_labels: not one of the {len(folders)} labels for each image")
    with arrays.open(f"{key}_images.npy") as stream:
        images, *shape = _shape(stream)
        gray = len(shape) == 2
        if images != count or not (gray or (len(shape) == 3 and shape[2] == 3)):
            raise DataError(f"{key}_images has the shape {(images, *shape)} for {count} labels")
        if max(shape) > MAX_SIDE:
            raise DataError(f"{key}_images has the shape {(images, *shape)}: too large")
        for number in tqdm(range(count), desc=f"Converting {split}", unit="image", disable=None):
            content = _read(stream, int(np.prod(shape)))
            folder = folders[labels[number]]
            pixels = np.frombuffer(content, np.uint8).reshape(shape)
            yield f"{split}/{folder}/{number:06}.png", pixels


def _shape(stream: IO[bytes]) -> tuple[int, ...]:
    """Read an .npy file's header; the rows follow."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # others have headers of gigabytes, for arrays of other types
        raise ValueError(f"version {version} of the .npy format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype != np.uint8 or (fortran and len(shape) > 1) or not shape or shape[0] > MAX_ROWS:
        raise ValueError(f"an array of {dtype}, shape {shape}")
    return shape


def _read(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise EOFError("an array ends too early")
    return content


def brats_pictures(files: ZipFile, conversion: BratsConversion) -> Iterator[Picture]:
    """Yield every axial slice in use of BraTS' volumes, and the masks of tumour slices.

    Slices are seen from below as radiologists do: the front of the head is at the top, the
    patient's right side at the left.

    Raises:
        DataError: there is no case, or a volume is damaged or does not fit to its mask.
    """
    cases: dict[str, dict[str, str]] = {}
    for name in sorted(files.namelist()):
        found = re.fullmatch(VOLUME, name)
        if found is not None and not is_hidden(name):
            cases.setdefault(found["case"], {})[found["kind"]] = name
    if not cases:
        raise DataError("no file is called BraTS2021_<number>_<kind>.nii.gz")
    wanted = {conversion.modality, "seg"}
    complete = {case: names for case, names in cases.items() if wanted <= names.keys()}
    if len(complete) < len(cases):
        logger.warning("%d cases have no mask: left out", len(cases) - len(complete))
    for case in tqdm(sorted(complete), desc="Converting", unit="case", disable=None):
        volume = _read_volume(files, complete[case][conversion.modality])
        mask = _read_volume(files, complete[case]["seg"]) > 0
        if mask.shape != volume.shape:
            raise DataError(f"{case}: the mask is {mask.shape}, the volume {volume.shape}")
        yield from _slices(case, volume, mask, conversion)


def _slices(
    case: str, volume: NDArray[np.float32], mask: NDArray[np.bool_], conversion: BratsConversion
) -> Iterator[Picture]:
    """Yield the slices of one case; axes (x, y, z) towards left, back, top."""
    brain = volume != 0
    if not brain.any():
        raise DataError(f"{case}: the volume is empty")
    low, high = np.percentile(volume[brain], conversion.percentiles)
    scaled = np.clip((volume - low) / max(high - low, 1e-6), 0, 1)
    levels = np.where(brain, np.rint(255 * scaled), 0).astype(np.uint8)
    for z in range(0, volume.shape[2], conversion.step):
        inside = int(brain[:, :, z].sum())
        if inside < conversion.min_brain * brain[:, :, z].size:
            continue
        share = int(mask[:, :, z].sum()) / inside
        if 0 < share < conversion.min_tumour:
            continue
        name = f"{case}_{z:03}.png"
        kind = "tumour" if share else "normal"
        yield f"slices/{kind}/{name}", np.ascontiguousarray(levels[:, :, z].T)  # (y, x)
        if share:
            yield f"masks/{name}", np.ascontiguousarray(mask[:, :, z].T).astype(np.uint8) * 255


def _read_volume(files: ZipFile, name: str) -> NDArray[np.float32]:
    """Return a volume with its axes towards left, back, top."""
    content = read_member(files, name)
    try:
        if name.endswith(".gz"):
            with gzip.open(io.BytesIO(content)) as stream:
                content = stream.read(MAX_VOLUME_BYTES + 1)
        if len(content) > MAX_VOLUME_BYTES:
            raise DataError(f"{name} is larger than {MAX_VOLUME_BYTES} bytes")
        # Whatever the file's axes, these are towards right, front, top.
        image = nib.as_closest_canonical(nib.Nifti1Image.from_bytes(content))
        volume: NDArray[np.float32] = np.asarray(image.dataobj, dtype=np.float32)
    except DAMAGED as error:
        raise DataError(f"{name} is no NIfTI volume, or damaged ({error})") from error
    if volume.ndim != 3:
        raise DataError(f"{name} has {volume.ndim} dimensions instead of 3")
    if not np.isfinite(volume).all():
        raise DataError(f"{name} holds numbers that are not finite, which no gray stands for")
    return volume[::-1, ::-1]
