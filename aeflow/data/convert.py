"""Datasets that are no image files become some, once, right after their files were verified."""

import io
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aeflow.core.errors import DataError
from aeflow.core.files import require_space
from aeflow.data.archives import open_zip, store_member
from aeflow.study.layouts import Conversion, MedmnistConversion

Picture = tuple[str, NDArray[np.uint8]]
# PNG is lossless at any level; the lowest is many times faster and hardly larger.
COMPRESSION = 1


def convert_archive(conversion: Conversion, source: Path, target: Path) -> int:
    """Write the images that a dataset's files hold to a zip, one at a time.

    Its bytes depend on the files and on the version of Pillow alone.

    Args:
        conversion: The card's.
        source: The zip of the dataset's files.
        target: The zip to write.

    Returns:
        Number of images and masks written.

    Raises:
        DataError: the files are not what the conversion expects.
        NoSpaceError: less is free than the files take, which the images do too, more or less.
    """
    require_space(target.parent, source.stat().st_size, f"The images of {source.name}")
    number = 0
    with open_zip(source) as files, ZipFile(target, "w") as archive:
        for name, pixels in _pictures(conversion, files):
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "PNG", compress_level=COMPRESSION)
            store_member(archive, name, content.tell(), [content.getvalue()])
            number += 1
    if not number:
        raise DataError("the files hold no image that the conversion would keep")
    return number


def _pictures(conversion: Conversion, files: ZipFile) -> Iterator[Picture]:
    """Yield the path of each image inside the new archive, and its pixels."""
    if isinstance(conversion, MedmnistConversion):
        from aeflow.data.medmnist import medmnist_pictures

        return medmnist_pictures(files, conversion.classes)
    # nibabel takes a while to import.
    from aeflow.data.brats import brats_pictures

    return brats_pictures(files, conversion)
