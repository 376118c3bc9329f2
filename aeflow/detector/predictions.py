"""Any number of images through a detector: a table, pictures and maps in a folder."""

import csv
import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from fcntl import LOCK_EX, LOCK_NB, flock
from io import SEEK_END, TextIOWrapper
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import (
    atomic_path,
    check_writable,
    sha256_file,
    write_json,
    writing,
)
from aeflow.core.text import guarded, one_line, span, unguarded
from aeflow.core.types import NORMAL
from aeflow.data.image_files import ImageFacts
from aeflow.detector.detector import Detector, Pixels
from aeflow.detector.new_images import Found, Looked, find_images, look_ahead
from aeflow.detector.overlays import draw_overlay
from aeflow.display.browse import COLOURS, Cell, Group, Page, heat, write_page, write_pictures
from aeflow.scoring.gallery import MAP_SIDE, as_file, shrink

logger = logging.getLogger(__name__)
Maps = Literal["none", "npy", "tiff"]
NAME, STARTED, PAGE = "predictions.csv", ".predictions.part.csv", "predictions.html"
BROWSED = "browse"  # the page's pictures
COLUMNS = ("path", "pred_score", "p_value", "pred_label", "verdict")
VERDICTS = {-1: "no threshold", 0: "normal", 1: "anomalous"}
LINE_EVERY = 30.0  # seconds
_FAR = 3.0  # ranges of the validation normals' scores beyond the highest


class Summary(NamedTuple):
    """What became of the images."""

    images: int
    anomalous: int
    unreadable: int


def predict(
    detector: Detector,
    packed: Path,
    places: Sequence[str],
    out: Path,
    maps: Maps = "none",
    pictures: bool = True,
) -> Summary:
    """Write what a detector says of images, and go on where an earlier call ended.

    Writes `out`/predictions.csv and a page of it, predictions.html; in `out`/overlays each image
    beside itself under its map; with `maps` the maps in `out`/maps, float32 (S, S).

    Returns:
        How many images there are, how many are anomalous, how many could not be read.

    Raises:
        DataError: there are no images, or `out` cannot be written.
        ConfigError: `out` was begun with another detector, another threshold or other images.
    """
    images = find_images(places)
    check_writable(out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    paths = "\n".join(image.path for image in images)
    asked = {
        "detector": sha256_file(packed),
        "threshold": detector.threshold.value,
        "maps": maps,
        "pictures": pictures,
        "images": hashlib.sha256(paths.encode()).hexdigest(),
    }
    part, about = out / STARTED, out / ".predictions.json"
    header = [*COLUMNS, *detector.components, "warnings", "error"]
    with (
        writing(part),
        part.open("a+b") as begun,
        TextIOWrapper(begun, encoding="utf-8", newline="") as file,
        ThreadPoolExecutor(2) as pool,
    ):
        done = _resume(begun, about, asked, header)
        table = csv.DictWriter(file, header, lineterminator="\n")
        if begun.tell():
            logger.info("%d of %d images are there from an earlier call", done, len(images))
        else:
            table.writeheader()
            with writing(out / BROWSED):
                for left_over in (out / BROWSED).glob("*.js"):
                    left_over.unlink()
        with closing(_Progress(len(images), done)) as progress:
            for batch in look_ahead(images[done:], detector.facts, pictures, pool):
                rows, small = _judge(detector, batch, progress.done + 1, out, maps, pool)
                if pictures:
                    small.write(out / BROWSED, progress.done)
                table.writerows(rows)
                file.flush()
                progress.add(len(batch))
        # While the file is ours still: another process would take it for one that was ended.
        _write_page(detector, part, out, pictures)
        with writing(out / NAME):
            part.replace(out / NAME)
        about.unlink()
    return _summary(out / NAME)


class _Progress:
    """How many images are done: a bar on a terminal, in a log a line now and then."""

    def __init__(self, total: int, done: int) -> None:
        self.done, self._begun, self._total = done, done, total
        self._bar = tqdm(total=total, initial=done, disable=None, unit="image")
        self._start = self._told = time.monotonic()

    def add(self, images: int) -> None:
        self.done += images
        self._bar.update(images)
        now = time.monotonic()
        if self._bar.disable and now - self._told >= LINE_EVERY and self.done < self._total:
            self._told = now
            rate = (self.done - self._begun) / (now - self._start)
            left = span((self._total - self.done) / rate)
            told = "%d of %d images, %.1f per second, %s left"
            logger.info(told, self.done, self._total, rate, left)

    def close(self) -> None:
        self._bar.close()


def _judge(
    detector: Detector,
    batch: list[tuple[Found, Looked | str]],
    first: int,
    out: Path,
    maps: Maps,
    pool: Executor,
) -> "tuple[list[dict[str, Any]], _Small]":
    """Return rows and small pictures of a batch, its first row `first`; write maps, overlays."""
    rows: list[dict[str, Any]] = []
    small = _Small(len(batch))
    drawn: list[Future[None]] = []
    said = _examined(detector, [looked for _, looked in batch])
    for number, (image, looked), found in zip(count(first), batch, said, strict=False):
        rows.append({"path": guarded(image.path)})
        if isinstance(looked, str) or isinstance(found, str):
            rows[-1]["error"] = found
            continue
        values, anomaly_map = found
        rows[-1] |= _row(values, detector, looked.facts)
        place = _place(number, image.path)
        if anomaly_map is not None and maps != "none":
            _write_map(out / "maps" / f"{place}.{maps}", anomaly_map)
        if looked.shown is not None:
            shown = (len(rows) - 1, looked.pixels, anomaly_map, detector.facts.map_scale)
            drawn.append(pool.submit(small.add, *shown))
            picture = out / "overlays" / f"{place}.png"
            given = (picture, looked.shown, anomaly_map, detector.facts, rows[-1])
            drawn.append(pool.submit(draw_overlay, *given))
    for each in drawn:
        each.result()
    return rows, small


def _examined(
    detector: Detector, looked: list[Looked | str]
) -> list[tuple[dict[str, Any], NDArray[np.float32] | None] | str]:
    """Return values and map of each image, or why it has none.

    One without a score must not take its batch with it.
    """
    pixels = {n: each.pixels for n, each in enumerate(looked) if not isinstance(each, str)}
    found: dict[int, tuple[dict[str, Any], NDArray[np.float32] | None] | str] = {}
    groups = [list(pixels)] if pixels else []
    while groups:
        group = groups.pop()
        try:
            table, maps, _ = detector.examine(np.stack([pixels[n] for n in group]))
        except DataError as error:
            if len(group) > 1:
                groups += [[n] for n in group]
            else:
                found[group[0]] = one_line(str(error))
            continue
        for position, n in enumerate(group):
            values = {str(name): value for name, value in table.iloc[position].items()}
            found[n] = values, None if maps is None else maps[position]
    return [found[n] if n in found else str(each) for n, each in enumerate(looked)]


def _resume(begun: BinaryIO, about: Path, asked: dict[str, Any], header: list[str]) -> int:
    """Return of how many images there are whole rows, of an earlier call that was ended.

    What is left of a row that was cut is taken away. Then the file is ours, and `about` says what
    it is of.
    """
    try:
        flock(begun, LOCK_EX | LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            f"Another process writes its predictions to {about.parent} now: wait for it, or give "
            "another --out."
        ) from error
    begun.seek(0)
    content = begun.read()
    if content and (not about.is_file() or json.loads(about.read_text()) != asked):
        raise ConfigError(
            f"{about.parent} holds the begun predictions of another detector, threshold, kind of "
            f"maps or list of images: give another --out, or remove {about.parent / STARTED}."
        )
    whole = content[: content.rfind(b"\n") + 1].decode().splitlines()
    if next(csv.reader(whole), None) != header:
        whole = []
    begun.truncate(content.rfind(b"\n") + 1 if whole else 0)
    begun.seek(0, SEEK_END)
    write_json(about, asked)
    return max(0, len(whole) - 1)


def _row(values: dict[str, Any], detector: Detector, facts: ImageFacts) -> dict[str, Any]:
    label = int(values.pop("pred_label"))
    row: dict[str, Any] = {name: f"{value:.7g}" for name, value in values.items()}
    row |= {"pred_label": label if label >= 0 else "", "verdict": VERDICTS[label]}
    row["warnings"] = "; ".join(_unlike(values["pred_score"], detector, facts))
    return row


def _unlike(score: float, detector: Detector, facts: ImageFacts) -> Iterator[str]:
    """Yield in what an image is unlike those that the detector was made with."""
    kinds = detector.facts.kinds
    if kinds and facts.bits not in (bits := {kind.bits for kind in kinds}):
        yield f"{facts.bits} bits, not {' or '.join(map(str, sorted(bits)))}"
    areas = [w * h for kind in kinds for w, h in (kind.smallest, kind.largest)]
    area = facts.width * facts.height
    if areas and not min(areas) / 4 <= area <= max(areas) * 4:
        yield f"{facts.width} x {facts.height} pixels, far from those of the training"
    gt_label, known = detector.validation
    normals = known[gt_label == NORMAL]
    if normals.size and score > normals.max() + _FAR * (np.ptp(normals) or 1.0):
        yield "a score far from all that validation knows"


def _place(number: int, path: str) -> str:
    """Return the name of what is written of an image, its ending aside."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).stem)[-60:] or "image"
    return f"{number:05d}_{name}"


def _write_map(path: Path, anomaly_map: NDArray[np.float32]) -> None:
    with atomic_path(path) as part:
        if path.suffix == ".npy":
            np.save(part, anomaly_map, allow_pickle=False)
        else:
            Image.fromarray(anomaly_map).save(part)


class _Small:
    """The small pictures of a batch of images, for the page."""

    def __init__(self, count: int) -> None:
        self._files: dict[str, list[bytes | None]] = {
            kind: [None] * count for kind in ("image", "map")
        }

    def add(
        self,
        n: int,
        pixels: Pixels,
        anomaly_map: NDArray[np.float32] | None,
        scale: tuple[float, float] | None,
    ) -> None:
        """Add an image, (S, S, 3), and its map, (S, S)."""
        self._files["image"][n] = as_file(shrink(pixels[None])[0])
        if anomaly_map is not None and scale is not None:
            self._files["map"][n] = heat(shrink(anomaly_map[None], MAP_SIDE)[0], scale)

    def write(self, folder: Path, first: int) -> None:
        """Write them, of images from number `first` on."""
        for kind, files in self._files.items():
            write_pictures(folder, f"{kind}s", first, {kind: files})


def _write_page(detector: Detector, table: Path, out: Path, pictures: bool) -> None:
    """Write a page to look at, which needs nothing but itself and folders beside it."""
    facts, (gt_label, known) = detector.facts, detector.validation
    content: dict[str, list[Any]] = {name: [] for name in ("path", "warnings", "errors", "detail")}
    scores: list[float | None] = []
    with table.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=1):
            path = unguarded(row["path"])
            # Not an overlay that an earlier call left.
            shown = pictures and row["pred_score"]
            detail = f"overlays/{_place(number, path)}.png" if shown else None
            for name, value in zip(
                content, (path, row["warnings"], row["error"], detail), strict=True
            ):
                content[name].append(value)
            scores.append(float(row["pred_score"]) if row["pred_score"] else None)
    # A call that went on where another was ended began a file in the middle of a batch.
    chunks = sorted(int(file.stem.rpartition("-")[2]) for file in (out / BROWSED).glob("images-*"))
    images = ["image"] if chunks else []
    maps = ["map"] if chunks and facts.map_scale is not None else []
    judged = {
        "test": [scores],
        "validation": [known.tolist()],
        "labels": gt_label.tolist(),
        "beta": None,
        "threshold": detector.threshold.value,
        "reason": detector.threshold.reason,
    }
    group = Group(facts.dataset, facts.category, "images", images, chunks, content)
    cell = Cell(0, facts.variant, None, facts.variant, "maps", maps, judged)
    page = Page(
        title=f"{len(scores)} images, judged by {facts.variant} of {group.label}",
        about=f"Study {facts.study}; {detector.told()}. {COLOURS} p: the share of the validation "
        "normals that are as high.",
        id="path",
        noun="Detector",
        absent=f"The folder {BROWSED} with the pictures of this page is not beside it.",
        groups=[group],
        cells=[cell],
    )
    write_page(out / PAGE, out / BROWSED, page)


def _summary(path: Path) -> Summary:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["pred_label"], row["error"]) for row in csv.DictReader(file)]
    anomalous = sum(label == "1" for label, _ in rows)
    return Summary(len(rows), anomalous, sum(bool(error) for _, error in rows))
