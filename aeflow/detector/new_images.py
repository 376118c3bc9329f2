"""New images: where they lie, their bytes, and how a detector and people see them."""

import csv
import io
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from glob import glob
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from PIL import Image

from aeflow.core.errors import DataError
from aeflow.core.text import one_line, printable, unguarded
from aeflow.data.archives import is_hidden, open_zip, read_member
from aeflow.data.decode import decode_image, show_image
from aeflow.data.image_files import ImageFacts, UnusableImageError
from aeflow.data.intensity import Levels
from aeflow.data.not_used import IMAGE, TABLE
from aeflow.data.workers import MAX_FILE_BYTES
from aeflow.detector.detector import BATCH, Packed, Pixels

logger = logging.getLogger(__name__)
MOST = 640  # pixels of a picture's longer side


class Found(NamedTuple):
    """An image that was asked for."""

    path: str  # as it stands in tables: in one line, whatever its name
    read: Callable[[], bytes]


class Looked(NamedTuple):
    """An image that can be used."""

    pixels: Pixels
    facts: ImageFacts
    shown: Image.Image | None  # in its own proportion, where a picture is wanted


def find_images(places: Sequence[str]) -> list[Found]:
    """Return the images of files, folders, patterns, zip archives and tables, in their order.

    Of folders and archives those with the ending of an image, or with none, but for the masks of
    a dataset; of a table (.csv, .tsv) those in its column `path`, seen from the table's folder.
    Each once.

    Raises:
        DataError: a place is not there, cannot be read, or has no images.
    """
    found: dict[str, Found] = {}
    for place in places:
        there = dict(_of_place(place))
        if not there:
            raise DataError(
                f"{place} has no images: nothing there ends like one (.png, .dcm, ...)."
            )
        found |= there
    return list(found.values())


def _of_place(place: str) -> Iterator[tuple[str, Found]]:
    path = Path(place)
    if path.is_dir():
        yield from _of_folder(path)
    elif not path.exists():
        matching = sorted(glob(place, recursive=True))  # noqa: PTH207, which raises at `a**b`
        if not matching:
            raise DataError(
                f"{place} is not there: give images, folders, patterns, a zip or a csv."
            )
        for name in matching:
            yield from _of_place(name)
    elif TABLE.fullmatch(place):
        yield from (_file(path.parent / name) for name in _listed(path))
    elif place.lower().endswith(".zip"):
        yield from _of_archive(path)
    else:
        yield _file(path)


def _of_folder(folder: Path) -> Iterator[tuple[str, Found]]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error

    names: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not is_hidden(name)]
        below = Path(parent).relative_to(folder)
        names += [(below / name).as_posix() for name in files if not is_hidden(name)]
    yield from (_file(folder / name) for name in _images(folder, sorted(names)))


def _of_archive(path: Path) -> Iterator[tuple[str, Found]]:
    archive = open_zip(path)  # held open for as long as its images are read
    members = [member.filename for member in archive.infolist() if not member.is_dir()]
    for name in _images(path, [name for name in members if not is_hidden(name)]):
        shown = f"{path.as_posix()}/{name}"
        yield shown, Found(_in_one_line(shown), partial(_read_member, archive, name))


def _images(place: Path, names: list[str]) -> list[str]:
    """Return the names of images, seen from a place; nothing else is dropped without a word."""
    last = {name: name.rpartition("/")[2].replace("\n", " ") for name in names}
    images = [name for name in names if IMAGE.fullmatch(last[name]) or "." not in last[name]]
    if others := sorted(set(names) - set(images)):
        told = f"{len(others)} files do not end like images, such as {printable(others[0])}"
        logger.info("%s: %s: left out", place, told)
    # As datasets have them: nobody wants a verdict on a mask, unless it is asked for by its place.
    tested = set[str]().union(*(_above("test", name) for name in images))
    masks = {name for name in images if tested & _above("ground_truth", name)}
    if masks:
        told = f"{len(masks)} masks in ground_truth, beside test, such as {printable(min(masks))}"
        how = "name that folder" if place.is_dir() else "unpack it and name that folder"
        logger.info("%s: %s: left out (%s too to judge them)", place, told, how)
    return [name for name in images if name not in masks]


def _above(folder: str, name: str) -> set[str]:
    """Return what comes in a path before each folder of that name."""
    parts = name.split("/")
    return {"/".join(parts[:n]) for n, part in enumerate(parts[:-1]) if part == folder}


def _file(path: Path) -> tuple[str, Found]:
    shown = path.as_posix()
    return shown, Found(_in_one_line(shown), partial(_read_file, path))


def _in_one_line(path: str) -> str:
    return printable(path).replace("\n", "\\n").replace("\t", "\\t")


def _read_file(path: Path) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnusableImageError("no regular file")  # a pipe would be waited for
    return _unless_large(status.st_size, path.read_bytes)


def _read_member(archive: ZipFile, name: str) -> bytes:
    return _unless_large(archive.getinfo(name).file_size, partial(read_member, archive, name))


def _unless_large(size: int, read: Callable[[], bytes]) -> bytes:
    if size > MAX_FILE_BYTES:
        raise UnusableImageError(f"a file of {size} bytes is no image")
    return read()


def _listed(path: Path) -> Iterator[str]:
    """Yield the cells of a table's column `path`, as spreadsheets save it."""
    try:
        content = path.read_bytes()
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if wide else "utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = [cell.strip().casefold() for cell in next(lines, [])]
        if "path" not in header:
            known = one_line(", ".join(header)) or "nothing"
            raise DataError(f"{path} has no column 'path', but {known}.")
        column = header.index("path")
        cells = [row[column].strip() for row in lines if len(row) > column]
        yield from (unguarded(cell) for cell in cells if cell)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of text: save it as CSV in UTF-8.") from error


def look_ahead(
    images: Sequence[Found], facts: Packed, pictures: bool, pool: Executor
) -> Iterator[list[tuple[Found, Looked | str]]]:
    """Yield images, `BATCH` at a time, as a detector and people see them, or why they cannot be.

    The next ones are read meanwhile; no more are ever in memory.
    """
    look = partial(_look, facts=facts, pictures=pictures)
    waiting: list[Future[Looked | str]] = []
    batch: Sequence[Found] = ()
    for first in range(0, len(images) + BATCH, BATCH):
        after = images[first : first + BATCH]
        reading = [pool.submit(look, image) for image in after]
        if batch:
            looked = [each.result() for each in waiting]
            yield list(zip(batch, looked, strict=True))
        batch, waiting = after, reading


def _look(image: Found, facts: Packed, pictures: bool) -> Looked | str:
    levels = facts.levels and Levels(*facts.levels)
    try:
        content = image.read()
        pixels, seen = decode_image(content, facts.data, levels)
        shown = show_image(content, facts.data, levels, MOST) if pictures else None
    except DataError as error:
        return one_line(str(error))
    except OSError as error:
        return one_line(error.strerror or str(error))
    return Looked(pixels, seen, shown)
