"""Worker processes that read an archive's images and write them into arrays on disk (`.npy`).

Each opens the archive itself, handles chunks of images and writes rows in any order.
"""

import hashlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aeflow.core.errors import DataError
from aeflow.data.archives import Archive, open_archive, read_member, sha256_member
from aeflow.data.decode import decode_image, decode_mask, look_at_image
from aeflow.data.image_files import ImageFacts, UnusableImageError
from aeflow.data.intensity import Levels
from aeflow.study.settings import DataSettings

logger = logging.getLogger(__name__)
CHUNK = 32  # images per task: little to send, and the bar still moves
MAX_FILE_BYTES = 2**30
Item = TypeVar("Item")
Result = TypeVar("Result")
_archive: Archive  # of a worker process, set once when it starts


@dataclass(frozen=True, slots=True)
class Job:
    """An image, or a mask of one, to decode: where it is and where its pixels go."""

    source: str
    row: int
    mask: str | None = None


class Look(NamedTuple):
    """What a file is."""

    sha256: str
    found: ImageFacts | str  # or the reason why it is of no use


@contextmanager
def archive_workers(archive: Path, count: int) -> Iterator[ProcessPoolExecutor]:
    """Start `count` processes that read `archive`; what is not begun is dropped on an error."""
    # Spawned, not forked: a fork copies the locks of whatever threads the caller has.
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=_start, initargs=(archive,)
    )
    try:
        yield pool
    except BrokenProcessPool as error:
        raise DataError(
            f"A process that read {archive} was killed, probably because memory ran out: run "
            "again with fewer cores."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def look_at_images(
    pool: ProcessPoolExecutor, sources: Sequence[str], settings: DataSettings, measured: bool
) -> list[Look]:
    """Hash each member and tell what image it is, in the order of `sources`.

    With `measured` its levels are measured, for which it is decoded.
    """
    what = "Measuring" if measured else "Reading"
    return _in_chunks(pool, partial(_look_at_chunk, settings, measured), sources, what)


def decode_images(
    pool: ProcessPoolExecutor,
    jobs: Sequence[Job],
    settings: DataSettings,
    target: Path,
    levels: Levels | None = None,
) -> list[ImageFacts | str]:
    """Decode the image of every job, or its mask where it has one, into its row of an array.

    Args:
        target: an array of `create_rows`.
        levels: see `decode_image`.

    Returns:
        Per job, the facts of the image or mask, or the reason why it cannot be used.
    """
    return _in_chunks(pool, partial(_decode_chunk, settings, target, levels), jobs, "Decoding")


def create_rows(path: Path, shape: tuple[int, ...]) -> None:
    """Create a uint8 array (rows, ...) of zeros and reserve its disk space.

    A full disk shows here, before hours of work, and not as a crash in the middle of them.
    """
    with path.open("wb") as file:
        _write_header(file, shape)
        size = int(np.prod(shape))
        if size > 0:
            os.posix_fallocate(file.fileno(), file.tell(), size)


@contextmanager
def open_rows(path: Path) -> Iterator[Callable[[int, NDArray[np.uint8]], None]]:
    """Open an array made by `create_rows`; yield a function that writes the values of a row.

    Plain writes, not a memory map: a full disk is then an error and not a fatal signal.
    """
    with path.open("r+b") as file:
        _, start = _read_header(file)

        def write(row: int, values: NDArray[np.uint8]) -> None:
            file.seek(start + row * values.nbytes)
            file.write(np.ascontiguousarray(values).data)

        yield write


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


def _in_chunks(
    pool: ProcessPoolExecutor,
    task: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    what: str,
) -> list[Result]:
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    results: list[Result] = []
    begin = time.perf_counter()
    with tqdm(total=len(items), desc=what, unit="image", disable=None) as progress:
        for chunk in pool.map(task, chunks):
            results += chunk
            progress.update(len(chunk))
    seconds = time.perf_counter() - begin
    rate = len(items) / seconds
    logger.info("%s %d images took %.1f s, %.0f per second", what, len(items), seconds, rate)
    return results


def _start(archive: Path) -> None:
    global _archive
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    Thread(target=_end_with_parent, daemon=True).start()
    _archive = open_archive(archive)


def _end_with_parent() -> None:
    """End this process when the parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _look_at_chunk(settings: DataSettings, measured: bool, sources: Sequence[str]) -> list[Look]:
    return [_look_at(settings, measured, source) for source in sources]


def _look_at(settings: DataSettings, measured: bool, source: str) -> Look:
    try:
        content = _read(source)
    except UnusableImageError as reason:
        return Look(sha256_member(_archive, source), str(reason))
    found: ImageFacts | str
    try:
        found = look_at_image(content, settings, measured)
    except UnusableImageError as reason:
        found = str(reason)
    return Look(hashlib.sha256(content).hexdigest(), found)


def _decode_chunk(
    settings: DataSettings, target: Path, levels: Levels | None, jobs: Sequence[Job]
) -> list[ImageFacts | str]:
    found: list[ImageFacts | str] = []
    with open_rows(target) as write:
        for job in jobs:
            try:
                content = _read(job.source)
                if job.mask is None:
                    pixels, facts = decode_image(content, settings, levels)
                else:
                    image = look_at_image(content, settings)
                    pixels, facts = decode_mask(_read(job.mask), settings, image)
                write(job.row, pixels)
                found.append(facts)
            except UnusableImageError as reason:
                found.append(str(reason))
    return found


def _read(source: str) -> bytes:
    size = _archive.getinfo(source).file_size
    if size > MAX_FILE_BYTES:
        raise UnusableImageError(f"a file of {size} bytes is no image")
    return read_member(_archive, source)
