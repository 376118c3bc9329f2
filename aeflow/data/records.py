"""What an archive says about its images: by their paths, or in tables that lie beside them."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.types import ANOMALOUS, NORMAL, Split
from aeflow.data.archives import Archive, is_hidden, read_member
from aeflow.study.cards import DatasetCard

# Columns of names, which may begin or end with a space; other cells are stripped.
PATHS = ("file", "image", "mask", "path")


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a dataset."""

    source: str  # path inside the archive
    split: Split  # what the dataset says it is for, later the split it was assigned to
    gt_label: int  # 0 normal, 1 anomalous
    defect: str  # its kind, or the name of the normal class
    group: str | None = None  # what must stay on one side of a split: a patient, a tile
    mask: str | None = None  # its path inside the archive; of anomalous test images alone
    sha256: str = ""  # of the image file's bytes; empty until it was read

    @property
    def image_id(self) -> str:
        """The path inside the archive without its extension."""
        return _without_extension(self.source)


class Found(NamedTuple):
    """The images of a category, sorted by path, and the archive's files that are of none."""

    records: list[Record]
    used: set[str]  # files of this category: images, masks, tables
    not_used: list[str]  # neither image nor mask nor table; hidden files are not counted


def find_records(archive: Archive, card: DatasetCard, category: str) -> Found:
    """List the images of a category.

    Where nothing says what an image is for, its split is train: see `layout.test_fraction`.

    Raises:
        ConfigError: the dataset has no such category.
        DataError: the counts differ from the card's; an image lacks its mask, group or label; a
            list names an image twice or one that is not there; or two images differ in nothing
            but their extension.
    """
    card.check_categories([category])
    files = _Files(archive)
    try:
        images = _in_list(files, card) if card.layout.image_list else _by_path(files, card)
        images.sort(key=lambda image: image["source"])
        own = [i for i in images if category == "all" or i.get("category") == category]
        records = [_record(card, image) for image in own]
    except DataError as error:
        raise DataError(f"{card.name}: {error}") from error
    where = f"{card.name}/{category}"
    if not records:
        wanted = "layout.image_list" if card.layout.image_list else "layout.image"
        raise DataError(
            f"{where}: no path inside the archive matches the card's {wanted} (the first of "
            f"{len(files.names)} files: {min(files.names, default='none')}). Give the archive as "
            "published, or the folder that it unpacks to."
        )
    _check_counts(card, category, records)
    identifiers = Counter(record.image_id for record in records)
    twice = [identifier for identifier, count in identifiers.items() if count > 1]
    if twice:
        raise DataError(f"{where}: two images are called {twice[0]}: rename one.")
    used, of_others = (
        {image[key] for image in chosen for key in ("source", "mask")} - {""}
        for chosen in (own, images)
    )
    used |= files.tables
    not_used = [name for name in files.shown if name not in used | of_others]
    return Found(records, used, not_used)


def count_records(records: Iterable[Record]) -> Counter[str]:
    """Count the images per split and label, and per split: the keys of a card's `Counts`."""
    found: Counter[str] = Counter()
    for record in records:
        found[f"{record.split}_{'anomalous' if record.gt_label else 'normal'}"] += 1
        found[str(record.split)] += 1
    return found


class _Files:
    """The files of an archive by name, and the CSV files among them that were read."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.names = {member.filename for member in archive.infolist() if not member.is_dir()}
        self.shown = sorted(name for name in self.names if not is_hidden(name))
        self.tables: set[str] = set()

    def matching(self, pattern: str) -> list[str]:
        """Return the files whose path matches a pattern whole."""
        return [name for name in self.shown if re.fullmatch(pattern, name)]

    def rows(
        self, pattern: str, columns: set[str], what: str
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield path and cells of every row of the CSV files whose path matches a pattern.

        Raises:
            DataError: there is none; or one is no UTF-8 text, lacks a column, or has a row with
                too few or too many cells.
        """
        paths = self.matching(pattern)
        if not paths:
            raise DataError(
                f"the archive has no {pattern}, the {what} that the card's layout names."
            )
        self.tables |= set(paths)
        for path in paths:
            yield from ((path, row) for row in self._read(path, columns))

    def _read(self, path: str, needed: set[str]) -> Iterator[dict[str, str]]:
        try:
            text = read_member(self.archive, path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no UTF-8 text: save it as UTF-8.") from error
        reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="\0")
        missing = needed - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path} lacks the column {' and '.join(sorted(missing))}.")
        for row in reader:
            if "" in row or "\0" in row.values():
                raise DataError(f"{path}, line {reader.line_num}: not one cell for each column.")
            yield {name: cell if name in PATHS else cell.strip() for name, cell in row.items()}


def _by_path(files: _Files, card: DatasetCard) -> list[dict[str, str]]:
    """Return the named parts of every matching path, with source, defect, group and mask."""
    layout = card.layout
    classes = _classes(files, layout.one_hot) if layout.one_hot else None
    groups = _groups(files, card, layout.groups) if layout.groups else None
    masks = _mask_names(files.names) if layout.mask is not None else {}
    images = []
    for source in files.shown:
        found = re.fullmatch(layout.image or "", source)
        if found is None:
            continue
        image = {name: value or "" for name, value in found.groupdict().items()}
        image |= {"source": source, "mask": ""}
        name = source.rpartition("/")[2]
        if classes is not None:
            image["defect"] = _look_up(classes, [_without_extension(name)], "class", source)
        if groups is not None:
            image["group"] = _look_up(groups, [source, name], "group", source)
        if layout.mask is not None and image["defect"] != layout.normal:
            image["mask"] = masks.get(layout.mask.format(**image), "")
        images.append(image)
    return images


def _in_list(files: _Files, card: DatasetCard) -> list[dict[str, str]]:
    """Return the rows of the list, with source, defect and mask."""
    pattern = card.layout.image_list or ""
    images: dict[str, dict[str, str]] = {}
    for table, row in files.rows(pattern, {"path", "label"}, "list of images"):
        folder = table[: table.rfind("/") + 1]
        source = folder + row["path"].removeprefix("./")
        mask = row.get("mask", "") and folder + row["mask"].removeprefix("./")
        for path in filter(None, (source, mask)):
            if path not in files.names:
                raise DataError(f"{table} names {path}, which is not in the archive.")
        if not row["label"]:
            raise DataError(f"{table} gives {row['path']} no label.")
        if source in images:
            raise DataError(f"{table} names {row['path']} twice.")
        images[source] = row | {"source": source, "defect": row["label"], "mask": mask}
    return list(images.values())


def _groups(files: _Files, card: DatasetCard, pattern: str) -> dict[str, str] | None:
    """Return image (path inside the archive, or file name) -> group; None without a table."""
    if not any(card.counts.values()) and not files.matching(pattern):
        return None  # such a card promises nothing
    groups: dict[str, str] = {}
    for table, row in files.rows(pattern, {"file", "group"}, "table of groups"):
        if groups.setdefault(row["file"], row["group"]) != row["group"]:
            raise DataError(f"{table} gives {row['file']} two groups.")
    return groups


def _classes(files: _Files, pattern: str) -> dict[str, str]:
    """Return image (file name without extension) -> the column that holds 1."""
    classes: dict[str, str] = {}
    for table, row in files.rows(pattern, {"image"}, "table of classes"):
        image = row.pop("image")
        ones = [name for name, cell in row.items() if _number(cell) == 1]
        if len(ones) != 1 or {_number(cell) for cell in row.values()} - {0, 1}:
            raise DataError(f"{table}: {image} is not of exactly one class.")
        if classes.setdefault(image, ones[0]) != ones[0]:
            raise DataError(f"{table} gives {image} a second class.")
    return classes


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return -1.0


def _record(card: DatasetCard, image: Mapping[str, str]) -> Record:
    stated = image.get("split", "")
    if stated and stated not in card.layout.splits:
        raise ConfigError(
            f"config/datasets/{card.name}.yaml: {image['source']} is of the split '{stated}'; "
            f"layout.splits knows {', '.join(card.layout.splits)}."
        )
    split = card.layout.splits[stated] if stated else Split.TRAIN
    gt_label = NORMAL if image["defect"] == card.layout.normal else ANOMALOUS
    # Not in training: ground_truth/hole/0_mask.png belongs to test/hole/0.png, whatever
    # train/hole/0.png may show. An image that may yet be drawn for the test keeps its mask.
    masked = gt_label == ANOMALOUS and (split == Split.TEST or not stated)
    mask = image["mask"] if masked else ""
    group = image.get("group") or None
    return Record(image["source"], split, gt_label, image["defect"], group, mask or None)


def _look_up(table: Mapping[str, str], names: list[str], what: str, source: str) -> str:
    for name in names:
        if table.get(name):
            return table[name]
    raise DataError(f"the archive's tables have no {what} for {source}.")


def _mask_names(members: set[str]) -> dict[str, str]:
    """Return member by its path, and by its path with `.*` for the extension."""
    wild = {f"{_without_extension(name)}.*": name for name in sorted(members)}
    return wild | {name: name for name in members}


def _without_extension(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _check_counts(card: DatasetCard, category: str, records: list[Record]) -> None:
    """Compare the images and masks found with what the card promises, before any is left out."""
    expected = card.counts[category]
    if expected is None:
        return
    found = count_records(records)
    differing = [
        f"{key}: expected {number}, found {found[key]}"
        for key, number in expected
        if number is not None and found[key] != number
    ]
    if differing:
        raise DataError(
            f"{card.name}/{category}: the images are not those of the card "
            f"({'; '.join(differing)}). Check the source, or correct counts in "
            f"config/datasets/{card.name}.yaml."
        )
    without = [
        record.source
        for record in records
        if record.split == Split.TEST and record.gt_label == ANOMALOUS and record.mask is None
    ]
    if without and card.layout.mask is not None:
        raise DataError(
            f"{card.name}/{category}: {len(without)} anomalous test images have no mask, the "
            f"first is {without[0]}. Check the source, or layout.mask of the card."
        )
