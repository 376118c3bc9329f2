"""BraTS' volumes become axial slices, one volume at a time."""

import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterator
from zipfile import ZipFile

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray
from tqdm import tqdm

from aeflow.core.errors import DataError
from aeflow.data.archives import is_hidden, read_member
from aeflow.study.layouts import BratsConversion

logger = logging.getLogger(__name__)
FILE = r"(?:.*/)?(?P<case>BraTS2021_\d{5})/(?P=case)_(?P<kind>flair|seg|t1|t1ce|t2)\.nii(?:\.gz)?"
MAX_VOLUME_BYTES = 2**30
DAMAGED = (
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
)


def brats_pictures(
    files: ZipFile, conversion: BratsConversion
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the path and the pixels of every slice in use, and of the masks of tumour slices.

    Slices are seen from below as radiologists do: the front of the head is at the top, the
    patient's right side at the left.

    Args:
        files: Holds `<case>/<case>_<kind>.nii.gz`.
        conversion: Which slices, which intensities.

    Raises:
        DataError: there is no case, or a volume is damaged or does not fit to its mask.
    """
    cases: dict[str, dict[str, str]] = {}
    for name in sorted(files.namelist()):
        found = re.fullmatch(FILE, name)
        if found is not None and not is_hidden(name):
            cases.setdefault(found["case"], {})[found["kind"]] = name
    if not cases:
        raise DataError("no file is called BraTS2021_<number>_<kind>.nii.gz")
    complete = {
        case: volumes
        for case, volumes in sorted(cases.items())
        if {conversion.modality, "seg"} <= volumes.keys()
    }
    if len(complete) < len(cases):
        logger.warning("%d cases have no mask: left out", len(cases) - len(complete))
    for case, volumes in tqdm(complete.items(), desc="Converting", unit="case", disable=None):
        volume = _read_volume(files, volumes[conversion.modality])
        mask = _read_volume(files, volumes["seg"]) > 0
        if mask.shape != volume.shape:
            raise DataError(f"{case}: the mask is {mask.shape}, the volume {volume.shape}")
        yield from _slices(case, volume, mask, conversion)


def _slices(
    case: str, volume: NDArray[np.float32], mask: NDArray[np.bool_], conversion: BratsConversion
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
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
    return volume[::-1, ::-1]
