"""Image arrays on disk (`.npy`), whose rows are written in any order by any process."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray


def create_rows(path: Path, shape: tuple[int, ...]) -> None:
    """Create a uint8 array of zeros and reserve its disk space.

    A full disk shows here, before hours of work, and not as a crash in the middle of them.

    Args:
        path: The file.
        shape: (rows, ...).
    """
    with path.open("wb") as file:
        _write_header(file, shape)
        size = int(np.prod(shape))
        if size > 0:
            os.posix_fallocate(file.fileno(), file.tell(), size)


class RowWriter:
    """Writes single rows of an array made by `create_rows`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = _read_header(file)[1]

    def write(self, row: int, values: NDArray[np.uint8]) -> None:
        """Write `values`, of the shape of one row, to row number `row`."""
        self._file.seek(self._start + row * values.nbytes)
        self._file.write(np.ascontiguousarray(values).data)


@contextmanager
def open_rows(path: Path) -> Iterator[RowWriter]:
    """Open an array made by `create_rows` for writing.

    Plain writes, not a memory map: a full disk is then an error and not a fatal signal.
    """
    with path.open("r+b") as file:
        yield RowWriter(file)


def keep_rows(path: Path, kept: Sequence[int]) -> None:
    """Drop all rows but `kept` (ascending) from an array made by `create_rows`, in place."""
    with path.open("r+b") as file:
        shape, start = _read_header(file)
        size = int(np.prod(shape[1:]))
        for target, row in enumerate(kept):
            file.seek(start + row * size)
            values = file.read(size)
            file.seek(start + target * size)
            file.write(values)
        file.truncate(start + len(kept) * size)
        file.seek(0)
        # NumPy pads the header so that the number of rows can change in place.
        _write_header(file, (len(kept), *shape[1:]))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], int]:
    """Return the shape, and the position of the first row."""
    np.lib.format.read_magic(file)
    shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return shape, file.tell()
