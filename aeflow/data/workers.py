"""Worker processes that read an archive: each opens it itself and handles chunks of images."""

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
from typing import TypeVar
from zipfile import ZipFile

from tqdm import tqdm

from aeflow.core.errors import DataError
from aeflow.data.archives import read_member, sha256_member
from aeflow.data.arrays import open_rows
from aeflow.data.decode import UnusableImageError, decode_image, decode_mask
from aeflow.study.settings import DataSettings

logger = logging.getLogger(__name__)
CHUNK = 32  # images per task: little to send, and the bar still moves
MAX_FILE_BYTES = 2**30
Item = TypeVar("Item")
Result = TypeVar("Result")
_archive: ZipFile  # of a worker process, set once when it starts


@dataclass(frozen=True, slots=True)
class Job:
    """An image to decode: where it is and where its pixels go."""

    source: str
    row: int
    mask: str | None = None
    mask_row: int | None = None


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


def hash_images(pool: ProcessPoolExecutor, sources: Sequence[str]) -> list[str]:
    """Return the SHA-256 of each member's bytes, in the order of `sources`."""
    return _in_chunks(pool, _hash_chunk, sources, "Reading")


def decode_images(
    pool: ProcessPoolExecutor,
    jobs: Sequence[Job],
    settings: DataSettings,
    images: Path,
    masks: Path,
) -> list[str | None]:
    """Decode every job into its row of the arrays `images` and `masks`.

    Returns:
        Per job, the reason why it cannot be used, or None.
    """
    return _in_chunks(pool, partial(_decode_chunk, settings, images, masks), jobs, "Decoding")


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
    logger.info(
        "%s %d images took %.1f s, %.0f per second",
        what,
        len(items),
        seconds,
        len(items) / seconds,
    )
    return results


def _start(archive: Path) -> None:
    global _archive
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    Thread(target=_end_with_parent, daemon=True).start()
    _archive = ZipFile(archive)


def _end_with_parent() -> None:
    """End this process when the parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _hash_chunk(sources: Sequence[str]) -> list[str]:
    return [sha256_member(_archive, source) for source in sources]


def _decode_chunk(
    settings: DataSettings, images: Path, masks: Path, jobs: Sequence[Job]
) -> list[str | None]:
    reasons: list[str | None] = []
    with open_rows(images) as image_rows, open_rows(masks) as mask_rows:
        for job in jobs:
            try:
                pixels, size = decode_image(_read(job.source), settings)
                if job.mask is not None and job.mask_row is not None:
                    mask_rows.write(job.mask_row, decode_mask(_read(job.mask), settings, size))
                image_rows.write(job.row, pixels)
                reasons.append(None)
            except UnusableImageError as reason:
                reasons.append(str(reason))
    return reasons


def _read(source: str) -> bytes:
    size = _archive.getinfo(source).file_size
    if size > MAX_FILE_BYTES:
        raise UnusableImageError(f"a file of {size} bytes is no image")
    return read_member(_archive, source)
