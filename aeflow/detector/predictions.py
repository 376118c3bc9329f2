"""Any number of images through a detector: a table, pictures and maps in a folder."""

import csv
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.files import (
    atomic_path,
    check_writable,
    sha256_file,
    write_json,
    write_text,
    writing,
)
from aeflow.core.text import guarded, one_line, unguarded
from aeflow.core.types import NORMAL
from aeflow.data.archives import is_hidden, open_zip, read_member
from aeflow.data.decode import decode_image, on_image, show_image
from aeflow.data.image_files import ImageFacts
from aeflow.data.intensity import Levels
from aeflow.data.not_used import IMAGE, TABLE
from aeflow.detector.detector import BATCH, Detector, Pixels
from aeflow.display.browse import Cell, Group, Page, heat, write_page, write_pictures
from aeflow.scoring.gallery import MAP_SIDE, as_file, shrink
from aeflow.study.settings import DataSettings

logger = logging.getLogger(__name__)
Maps = Literal["none", "npy", "tiff"]
NAME, STARTED, PAGE = "predictions.csv", ".predictions.part.csv", "predictions.html"
BROWSED = "browse"  # the page's pictures
COLUMNS = ("path", "pred_score", "p_value", "pred_label", "verdict")
VERDICTS = {-1: "no threshold", 0: "normal", 1: "anomalous"}
MOST = 640  # pixels of a picture's longer side
HEAT, CONTOUR = np.array([255, 90, 0], np.float32), np.array([255, 255, 0], np.uint8)
_FAR = 3.0  # ranges of the validation normals' scores beyond the highest


class Found(NamedTuple):
    """An image that was asked for."""

    path: str  # as it stands in the table
    read: Callable[[], bytes]


class Summary(NamedTuple):
    """What became of the images."""

    images: int
    anomalous: int
    unreadable: int


def find_images(places: Sequence[str]) -> list[Found]:
    """Return the images of files, folders, patterns, zip archives and tables, in their order.

    Of folders and archives those with the ending of an image, or with none; of a table (.csv,
    .tsv) those in its column `path`, seen from the table's folder.

    Raises:
        DataError: a place is not there, cannot be read, or has no images.
    """
    found: dict[str, Found] = {}
    for place in places:
        there = list(_of_place(place))
        if not there:
            raise DataError(
                f"{place} has no images: nothing there ends like one (.png, .dcm, ...)."
            )
        found |= {image.path: image for image in there}
    return list(found.values())


def _of_place(place: str) -> Iterator[Found]:
    path = Path(place)
    if path.is_dir():
        names = []
        for parent, folders, files in os.walk(path):
            folders[:] = [name for name in folders if not is_hidden(name)]
            names += [Path(parent, name) for name in files if not is_hidden(name)]
        yield from (_file(file) for file in sorted(names) if _is_image(file.name))
    elif not path.exists():
        wild, anchor = re.search(r"[*?[]", place), path.anchor
        pattern = place.removeprefix(anchor)
        matching = sorted(map(str, Path(anchor or ".").glob(pattern))) if wild else []
        if not matching:
            raise DataError(
                f"{place} is not there: give images, folders, patterns, a zip or a csv."
            )
        for name in matching:
            yield from _of_place(name)
    elif TABLE.fullmatch(place):
        yield from _listed(path)
    elif place.lower().endswith(".zip"):
        archive = open_zip(path)  # held open for as long as its images are read
        for member in archive.infolist():
            if (
                not member.is_dir()
                and not is_hidden(member.filename)
                and _is_image(member.filename)
            ):
                yield Found(
                    f"{place}/{member.filename}", partial(read_member, archive, member.filename)
                )
    else:
        yield _file(path)


def _file(path: Path) -> Found:
    return Found(path.as_posix(), path.read_bytes)


def _is_image(name: str) -> bool:
    return IMAGE.fullmatch(name) is not None or "." not in name.rpartition("/")[2]


def _listed(path: Path) -> Iterator[Found]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        table = csv.DictReader(io.StringIO(text), delimiter=separator)
        if "path" not in (table.fieldnames or []):
            raise DataError(
                f"{path} has no column 'path', but {', '.join(table.fieldnames or ['nothing'])}."
            )
        for row in table:
            name = unguarded((row["path"] or "").strip())
            if name:
                yield _file(path.parent / name)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from error


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
        ConfigError: `out` was begun with another detector or another threshold.
    """
    images = find_images(places)
    check_writable(out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    browsed = out / BROWSED
    asked = {
        "detector": sha256_file(packed),
        "threshold": detector.threshold.value,
        "maps": maps,
        "pictures": pictures,
    }
    part, about = out / STARTED, out / ".predictions.json"
    header = [*COLUMNS, *detector.components, "warnings", "error"]
    done = _resume(part, about, asked, header)
    left = [image for image in images if image.path not in done]
    if done:
        logger.info("%d of %d images are there from an earlier call", len(done), len(images))
    else:
        with writing(browsed):
            for left_over in browsed.glob("*.js"):
                left_over.unlink()
    batches = [left[first : first + BATCH] for first in range(0, len(left), BATCH)]
    facts, levels = detector.facts, detector.facts.levels and Levels(*detector.facts.levels)
    write_json(about, asked)
    with (
        writing(part),
        part.open("a", encoding="utf-8", newline="") as file,
        ThreadPoolExecutor(2) as pool,
        tqdm(total=len(images), initial=len(done), disable=None, unit="image") as bar,
    ):
        table = csv.DictWriter(file, header, lineterminator="\n")
        if not done:
            table.writeheader()
        look = partial(_look, data=facts.data, levels=levels, pictures=pictures)
        waiting = [pool.submit(look, image) for image in (batches[0] if batches else [])]
        for number, batch in enumerate(batches):
            looked = [future.result() for future in waiting]
            first = len(done) + number * BATCH  # its place in the table
            after = batches[number + 1] if number + 1 < len(batches) else []
            waiting = [pool.submit(look, image) for image in after]
            rows: list[dict[str, Any]] = [{"path": guarded(image.path)} for image in batch]
            drawn, small = [], _Small(len(batch))
            for n, (values, one) in _examined(detector, looked):
                seen = looked[n]
                if isinstance(seen, str):
                    continue
                small.add(n, seen.pixels, one, detector.facts.map_scale)
                rows[n] |= _row(values, detector, seen.facts)
                place = _place(first + n + 1, batch[n].path)
                if one is not None and maps != "none":
                    _write_map(out / "maps" / f"{place}.{maps}", one)
                if seen.shown is not None:
                    drawn.append((out / "overlays" / f"{place}.png", seen.shown, rows[n], one))
            for n, why in enumerate(looked):
                if isinstance(why, str):
                    rows[n]["error"] = why
            list(pool.map(lambda given: _draw(detector, *given), drawn))
            if pictures:
                small.write(browsed, first)
            table.writerows(rows)
            file.flush()
            bar.update(len(batch))
    _write_page(detector, part, out)
    with writing(out / NAME):
        part.replace(out / NAME)
    about.unlink()
    return _summary(out / NAME)


def _examined(
    detector: Detector, looked: list["_Looked | str"]
) -> Iterator[tuple[int, tuple[dict[str, Any], NDArray[np.float32] | None]]]:
    """Yield position, row and map of each image that can be used.

    Why another cannot is put in its place. One without a score must not take its batch with it.
    """
    pixels = {n: each.pixels for n, each in enumerate(looked) if not isinstance(each, str)}
    groups = [list(pixels)] if pixels else []
    while groups:
        group = groups.pop()
        try:
            table, maps, _ = detector.examine(np.stack([pixels[n] for n in group]))
        except DataError as error:
            if len(group) > 1:
                groups += [[n] for n in reversed(group)]
            else:
                looked[group[0]] = one_line(str(error))
            continue
        for position, n in enumerate(group):
            values = {str(name): value for name, value in table.iloc[position].items()}
            yield n, (values, None if maps is None else maps[position])


def _resume(part: Path, about: Path, asked: dict[str, Any], header: list[str]) -> set[str]:
    """Return the paths of the images whose rows are there, of an earlier call that was ended."""
    if not part.is_file():
        return set()
    if not about.is_file() or json.loads(about.read_text()) != asked:
        raise ConfigError(
            f"{part.parent} holds the begun predictions of another detector, threshold or kind of "
            f"maps: give another --out, or remove {part}."
        )
    lines = part.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    rows = list(csv.DictReader(whole))
    if not rows or list(rows[0]) != header:
        part.unlink()
        return set()
    if len(whole) < len(lines):  # the last row was cut
        write_text(part, "".join(whole))
    return {unguarded(row["path"]) for row in rows}


class _Looked(NamedTuple):
    pixels: Pixels
    facts: ImageFacts
    shown: Image.Image | None  # in its own proportion, where a picture is wanted


def _look(
    image: Found, data: DataSettings, levels: Levels | None, pictures: bool
) -> _Looked | str:
    """Return an image as the detector and as people see it, or why it cannot be used."""
    try:
        content = image.read()
        pixels, facts = decode_image(content, data, levels)
        return _Looked(
            pixels, facts, show_image(content, data, levels, MOST) if pictures else None
        )
    except DataError as error:
        return one_line(str(error))
    except OSError as error:
        return one_line(error.strerror or str(error))


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


def _draw(
    detector: Detector,
    path: Path,
    plain: Image.Image,
    row: dict[str, Any],
    anomaly_map: NDArray[np.float32] | None,
) -> None:
    """Write an image and, beside it, itself under its map, with the contour of what is high."""
    facts = detector.facts
    shown = [plain]
    if anomaly_map is not None and facts.map_scale is not None:
        low, limit = facts.map_scale
        values = np.nan_to_num(on_image(anomaly_map, plain.size, facts.data), nan=low)
        high = values > limit
        # Half as strong at the limit as where the map is highest.
        opacity = np.clip((values - low) / (2 * (limit - low) or 1.0), 0, 1)[..., None] * 0.6
        pixels = (1 - opacity) * np.asarray(plain, np.float32) + opacity * HEAT
        pixels = pixels.round().astype(np.uint8)
        edge = np.pad(high, 1)
        inner = edge[:-2, 1:-1] & edge[2:, 1:-1] & edge[1:-1, :-2] & edge[1:-1, 2:]
        pixels[high & ~inner] = CONTOUR
        shown.append(Image.fromarray(pixels))
    width, height = plain.size
    page = Image.new("RGB", (len(shown) * (width + 4) - 4, height + 18), "white")
    for place, each in enumerate(shown):
        page.paste(each, (place * (width + 4), 0))
    # No verdict: the page has a slider for the threshold.
    told = f"score {float(row['pred_score']):.4g}  p {float(row['p_value']):.3g}"
    ImageDraw.Draw(page).text((2, height + 2), told, fill="black")
    with atomic_path(path) as part:
        page.save(part)


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


def _write_page(detector: Detector, table: Path, out: Path) -> None:
    """Write a page to look at, which needs nothing but itself and folders beside it."""
    facts, (gt_label, known) = detector.facts, detector.validation
    content: dict[str, list[Any]] = {name: [] for name in ("path", "warnings", "errors", "detail")}
    scores: list[float | None] = []
    with table.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=1):
            path = unguarded(row["path"])
            picture = f"overlays/{_place(number, path)}.png"
            detail = picture if (out / picture).is_file() else None
            for name, value in zip(
                content, (path, row["warnings"], row["error"], detail), strict=True
            ):
                content[name].append(value)
            scores.append(float(row["pred_score"]) if row["pred_score"] else None)
    # A call that went on where another was ended began a file in the middle of a batch.
    chunks = sorted(int(file.stem.rpartition("-")[2]) for file in (out / BROWSED).glob("images-*"))
    label = facts.dataset + ("" if facts.category == "all" else f", {facts.category}")
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
    group = Group(facts.dataset, facts.category, label, "images", images, chunks, content)
    cell = Cell(0, facts.variant, None, facts.variant, "maps", maps, judged)
    page = Page(
        title=f"{len(scores)} images, judged by {facts.variant} of {label}",
        about=f"Study {facts.study}; {detector.told()}. Maps are orange where they are higher "
        "than usual, yellow where they are higher than anywhere in the maps of 95 % of the normal "
        "validation images. p: the share of the validation normals that are as high.",
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
