"""One zip of the files of a dataset."""

import logging
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

from aeflow.core.errors import DataError
from aeflow.core.files import require_space
from aeflow.data.archives import add_file, add_tar, add_zip, archive_kind, open_zip
from aeflow.data.download import discard
from aeflow.study.cards import SourceFile

logger = logging.getLogger(__name__)


def place(files: Sequence[SourceFile], originals: Sequence[Path], target: Path) -> None:
    """Make one zip of a dataset's files.

    A single zip is moved. Anything else is packed into a stored zip: of several archives each
    one's members go below a folder named by its stem, a plain file is a member at the top.

    Args:
        files: Names.
        originals: Where they lie.
        target: The zip to write.

    Raises:
        DataError: a file is unreadable or unsafe; it is discarded.
        NoSpaceError: the zip would not fit.
    """
    kinds = [
        "plain" if file.is_plain else archive_kind(original)
        for file, original in zip(files, originals, strict=True)
    ]
    if kinds == ["zip"]:
        originals[0].replace(target)
        return
    # Images hardly compress, so that a compressed tar is about as large as its content.
    unpacked = sum(
        _unpacked_bytes(original) if kind == "zip" else original.stat().st_size
        for original, kind in zip(originals, kinds, strict=True)
    )
    require_space(target.parent, unpacked, f"The zip of {', '.join(file.name for file in files)}")
    logger.info("Packing %s into one zip", ", ".join(file.name for file in files))
    with ZipFile(target, "w") as placed:
        for file, original, kind in zip(files, originals, kinds, strict=True):
            folder = file.stem if len(files) > 1 else ""
            try:
                if kind == "plain":
                    add_file(placed, original, file.name)
                elif kind == "zip":
                    add_zip(placed, original, folder)
                else:
                    add_tar(placed, original, folder)
            except DataError:
                discard(original)
                raise


def _unpacked_bytes(path: Path) -> int:
    with open_zip(path) as archive:
        return sum(member.file_size for member in archive.infolist())
