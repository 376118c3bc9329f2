"""DICOM files, written by the tests."""

import io
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset, uid
from pydicom.encaps import encapsulate


def dicom(
    values: np.ndarray,
    syntax: str = uid.ExplicitVRLittleEndian,
    coded: list[bytes] | None = None,
    preamble: bool = True,
    **tags: Any,
) -> bytes:
    """Return a DICOM file.

    Args:
        values: levels (h, w), (h, w, 3) or (frames, h, w).
        syntax: the transfer syntax.
        coded: the frames as this syntax codes them.
        preamble: whether it has the 128 bytes and the letters that files begin with.
        tags: further elements by keyword; `bits` is short for BitsStored.
    """
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = "1.2.3"
    colour = values.ndim == 3 and values.shape[2] == 3
    if values.ndim == 3 and not colour:
        data.NumberOfFrames = len(values)
    data.Rows, data.Columns = values.shape[:2] if colour else values.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * values.dtype.itemsize
    data.BitsStored = tags.pop("bits", data.BitsAllocated)
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes() if coded is None else encapsulate(coded)
    file = io.BytesIO()
    if preamble:
        data.save_as(file, enforce_file_format=True)
    else:
        implicit = syntax == uid.ImplicitVRLittleEndian
        data.save_as(file, implicit_vr=implicit, little_endian=True)
    return file.getvalue()
