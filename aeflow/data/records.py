"""What an archive says about its images: by their paths, or in tables that lie beside them."""

import csv
import io
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PureWindowsPath
from typing import NamedTuple
from unicodedata import normalize

from aeflow.core.errors import DataError
from aeflow.core.schema import label_fault
from aeflow.core.text import UNSEEN, one_line
from aeflow.core.types import ANOMALOUS, NORMAL, Split
from aeflow.data.archives import Archive, Folder, is_hidden, read_member
from aeflow.data.not_used import (
    NO_IMAGE,
    SPARE_MASK,
    TABLE,
    UNREAD,
    close_to,
    fitting_card,
    table_name,
    why_not_used,
)
from aeflow.study.cards import DatasetCard

# Columns of names, which may begin or end with a space; other cells are stripped.
PATHS = ("file", "image", "mask", "path")
MOST_LABELS = 30  # shown
MAX_TABLE_BYTES = 2**27  # a line for each of a million images


class NoImagesError(DataError):
    """A card finds no image of a category in a source; says what is there and what was meant."""


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
    not_used: dict[str, str]  # files that are no image, mask or table of any -> why; none hidden
    stated: bool  # whether any image says what it is for
    notes: list[str]  # what may be other than it was meant

    @property
    def masks(self) -> set[str]:
        """The masks' paths."""
        return {record.mask for record in self.records if record.mask}


def find_records(archive: Archive, card: DatasetCard, category: str) -> Found:
    """List the images of a category.

    Where nothing says what an image is for, its split is train: see `layout.test_fraction`.

    Raises:
        ConfigError: the dataset has no such category.
        NoImagesError: no image is found.
        DataError: what is found is not what the card promises, or contradicts itself.
    """
    card.check_categories([category])
    files = _Files(archive, card)
    images = _in_list(files, card) if card.layout.image_list else _by_path(files, card)
    images.sort(key=lambda image: image["source"])
    own = [i for i in images if category == "all" or i.get("category") == category]
    judging = {image["mask"] for image in images if _is_judged(card, image)}
    spare = {image["mask"] for image in images} - judging
    read = files.tables | judging | {image["source"] for image in images}
    not_used = {
        name: SPARE_MASK if name in spare else why_not_used(name, card.layout)
        for name in files.shown
        if name not in read
    }
    if not own:
        raise NoImagesError(_nothing(files, card, category, not_used))
    records = [_record(card, image) for image in own]
    for record in records:
        _check_text(record)
    _check_counts(card, category, records)
    if not card.has_source and (near := [path for path, why in not_used.items() if "mean" in why]):
        raise DataError(f"{near[0]} is not used: {not_used[near[0]]} Rename it, or move it away.")
    identifiers = Counter(record.image_id for record in records)
    twice = [identifier for identifier, count in identifiers.items() if count > 1]
    if twice:
        raise DataError(f"two images are called {twice[0]}: rename one.")
    roots = Counter(image.get("root", "") for image in own)
    if len(roots) > 1 and not card.has_source:
        listed = ", ".join(f"{root or 'the top'} ({n})" for root, n in roots.most_common(3))
        files.notes.append(
            f"images of {len(roots)} folders are taken as one dataset: {listed}"
            f"{', ...' if roots.total() > 3 < len(roots) else ''}; if they are not, name one of "
            "them as the source"
        )
    return Found(records, not_used, any(image.get("split") for image in own), files.notes)


def count_records(records: Iterable[Record]) -> Counter[str]:
    """Count the images per split and label, and per split: the keys of a card's `Counts`."""
    found: Counter[str] = Counter()
    for record in records:
        found[f"{record.split}_{'anomalous' if record.gt_label else 'normal'}"] += 1
        found[str(record.split)] += 1
    return found


class _Files:
    """The files of an archive by name, and the CSV files among them that were read."""

    def __init__(self, archive: Archive, card: DatasetCard) -> None:
        self.archive, self.card = archive, card
        self.kind = "folder" if isinstance(archive, Folder) else "archive"
        self.names = {member.filename for member in archive.infolist() if not member.is_dir()}
        self.shown = sorted(name for name in self.names if not is_hidden(name))
        self.tables: set[str] = set()
        self.notes: list[str] = []
        # macOS writes an umlaut as two characters, others as one.
        self.composed = {normalize("NFC", name): name for name in sorted(self.names)}

    def matching(self, pattern: str) -> list[str]:
        """Return the files whose path matches a pattern whole."""
        return [name for name in self.shown if re.fullmatch(pattern, name)]

    def find(self, table: str, cell: str) -> str | None:
        """Return the file that a table's cell names; None: there is none."""
        folder = posixpath.dirname(table)
        # As it stands there; else without blanks around it, and as Windows writes folders.
        for path in (cell, cell.strip(), cell.strip().replace("\\", "/")):
            name = posixpath.normpath(posixpath.join(folder, path))
            if found := name if name in self.names else self.composed.get(normalize("NFC", name)):
                return found
        return None

    def named(self, table: str, cell: str) -> str:
        """Return the file that a table's cell names; DataError: there is none."""
        if found := self.find(table, cell):
            return found
        folder = posixpath.dirname(table)
        shown = {name.casefold(): name for name in reversed(self.shown)}
        if PureWindowsPath(cell.strip()).root:  # of this system or the other
            remedy = "write paths from the folder of the table on."
        elif close := get_close_matches(posixpath.join(folder, cell).casefold(), shown, n=1):
            remedy = f"did you mean {posixpath.relpath(shown[close[0]], folder or '.')}?"
        else:
            remedy = "mend the table."
        raise DataError(
            f"{table} names {one_line(cell)}, which is not in the {self.kind}: {remedy}"
        )

    def rows(
        self, pattern: str, columns: set[str], what: str
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield path and cells of every row of the CSV files whose path matches a pattern.

        DataError: there is none, or one cannot be read, lacks a column or a cell.
        """
        paths = self.matching(pattern)
        if not paths:
            wanted = table_name(pattern)
            tables = {path.casefold(): path for path in self.shown if TABLE.fullmatch(path)}
            close = get_close_matches(wanted, list(tables), n=1)
            meant = f" Did you mean {wanted}? There is {tables[close[0]]}." if close else ""
            if close and not close[0].endswith(".csv"):
                meant = f" There is {tables[close[0]]}: save it as {wanted}."
            raise DataError(
                f"the {self.kind} has no {wanted}, the {what} of the card."
                f"{meant or _looks_like(self.shown, self.card)}"
            )
        self.tables |= set(paths)
        for path in paths:
            yield from ((path, row) for row in self._read(path, columns))

    def _read(self, path: str, needed: set[str]) -> Iterator[dict[str, str]]:
        if (size := self.archive.getinfo(path).file_size) > MAX_TABLE_BYTES:
            raise DataError(f"{path} has {size:,} bytes, more than a table of images.")
        text = _decoded(read_member(self.archive, path), path, self.notes)
        text = re.sub(r"\A(?i:sep)=.?(?=\r?\n)", "", text)  # a spreadsheet's word to itself
        first = text.lstrip("\r\n;,\t ").partition("\n")[0]

        def likely(sign: str) -> tuple[int, int]:
            return len(needed & set(_header(first.split(sign), needed))), first.count(sign)

        # Spreadsheets write semicolons where the comma stands in numbers.
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=likely))
        rows = (cells for cells in lines if any(map(str.strip, cells)))  # others are empty
        try:
            header = _header(next(rows, []), needed)
            _check_columns(path, header, needed)
            for cells in rows:
                if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
                    raise DataError(
                        f"{path}, line {lines.line_num}: not one cell for each column."
                    )
                row = dict(zip(header, cells, strict=False))
                yield {n: cell if n in PATHS else cell.strip() for n, cell in row.items() if n}
        except csv.Error as error:
            raise DataError(f"{path}, line {lines.line_num}: {error}.") from error


def _decoded(content: bytes, path: str, notes: list[str]) -> str:
    """Return the text of a table: UTF-8, or what spreadsheets write else, with a note."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    wrong = DataError(f"{path} is no text: save it as CSV in UTF-8.")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError as error:
            raise wrong from error
        notes.append(f"{path} is no UTF-8 text: read as Windows-1252, as spreadsheets write it")
    if UNSEEN.search(text.replace("\r", "\n")):
        raise wrong
    return text


def _header(cells: Iterable[str], needed: set[str]) -> list[str]:
    """Return the columns' names, those that are asked for however they are spelled."""
    names = [cell.strip().strip('"').strip() for cell in cells]
    known = needed | {"split", "group", "mask", "category"}
    return [name.casefold() if name.casefold() in known else name for name in names]


def _check_columns(path: str, header: list[str], needed: set[str]) -> None:
    named = [one_line(name) for name in header if name]
    if missing := needed - set(named):
        raise DataError(
            f"{path} lacks the column {' and '.join(sorted(missing))} (it has: "
            f"{', '.join(named) or 'none'})."
        )
    if twice := [name for name, count in Counter(named).items() if count > 1]:
        raise DataError(f"{path} has the column {twice[0]} twice.")


def _by_path(files: _Files, card: DatasetCard) -> list[dict[str, str]]:
    """Return the named parts of every matching path, with source, defect, group and mask."""
    layout = card.layout
    classes = _classes(files, layout.one_hot) if layout.one_hot else None
    matching = {path: re.fullmatch(layout.image or "", path) for path in files.shown}
    matches = {path: found for path, found in matching.items() if found}
    groups = _groups(files, card, layout.groups, list(matches)) if layout.groups else None
    masks = _mask_names(files.names) if layout.mask is not None else {}
    images = []
    for source, found in matches.items():
        image = {name: value or "" for name, value in found.groupdict().items()}
        image |= {"source": source, "mask": ""}
        name = source.rpartition("/")[2]
        if classes is not None:
            image["defect"] = _look_up(classes, _without_extension(name), "class", source)
        if groups is not None:
            image["group"] = _look_up(groups, source, "group", source)
        if layout.mask is not None and image["defect"] != layout.normal:
            image["mask"] = masks.get(normalize("NFC", layout.mask.format(**image)), "")
        images.append(image)
    return images


def _in_list(files: _Files, card: DatasetCard) -> list[dict[str, str]]:
    """Return the rows of the list, with source, defect and mask."""
    pattern = card.layout.image_list or ""
    images: dict[str, dict[str, str]] = {}
    for table, row in files.rows(pattern, {"path", "label"}, "list of images"):
        source = files.named(table, row["path"])
        mask = files.named(table, row["mask"]) if row.get("mask", "").strip() else ""
        if not row["label"]:
            raise DataError(f"{table} gives {one_line(row['path'])} no label.")
        if source in images:
            raise DataError(f"{table} names {one_line(row['path'])} twice.")
        images[source] = row | {"source": source, "defect": row["label"], "mask": mask}
        images[source]["root"] = table[: table.rfind("/") + 1]
    return list(images.values())


def _groups(
    files: _Files, card: DatasetCard, pattern: str, images: Sequence[str]
) -> dict[str, str] | None:
    """Return image -> group; None without a table.

    A row names an image by its path, from the table's folder or the top, or by its name alone.
    """
    if not any(card.counts.values()) and not files.matching(pattern):
        return None  # such a card promises nothing
    called: dict[str, list[str]] = defaultdict(list)
    for image in images:
        called[normalize("NFC", posixpath.basename(image))].append(image)
    known, strays, groups = set(images), list[str](), dict[str, str]()
    for table, row in files.rows(pattern, {"file", "group"}, "table of groups"):
        cell = one_line(row["file"])
        paths = known.intersection((files.find(table, row["file"]), files.find("", row["file"])))
        named = sorted(paths) or called.get(normalize("NFC", row["file"].strip()), [])
        if len(named) > 1:
            raise DataError(
                f"{table} names {cell}, and {len(named)} images are called so, such as {named[0]} "
                f"and {named[1]}: write their paths."
            )
        for path in named:
            if groups.setdefault(path, row["group"]) != row["group"]:
                raise DataError(f"{table} gives {cell} two groups.")
        if not named:
            strays.append(f"{cell} in {table}")
    if strays:
        files.notes.append(f"rows that name no image: {len(strays)}, such as {strays[0]}")
    return groups


def _classes(files: _Files, pattern: str) -> dict[str, str]:
    """Return image (file name without extension) -> the column that holds 1."""
    classes: dict[str, str] = {}
    for table, row in files.rows(pattern, {"image"}, "table of classes"):
        image = row.pop("image")
        ones = [name for name, cell in row.items() if _number(cell) == 1]
        if len(ones) != 1 or {_number(cell) for cell in row.values()} - {0, 1}:
            raise DataError(f"{table}: {one_line(image)} is not of exactly one class.")
        if classes.setdefault(image, ones[0]) != ones[0]:
            raise DataError(f"{table} gives {one_line(image)} a second class.")
    return classes


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return -1.0


def _record(card: DatasetCard, image: Mapping[str, str]) -> Record:
    stated = image.get("split", "")
    if stated and stated not in card.layout.splits:
        raise DataError(
            f"{image['source']} is of the split '{one_line(stated)}'; the card {card.name} knows "
            f"{', '.join(card.layout.splits)}."
        )
    split = card.layout.splits[stated] if stated else Split.TRAIN
    gt_label = NORMAL if image["defect"] == card.layout.normal else ANOMALOUS
    mask = image["mask"] if _is_judged(card, image) else ""
    # Composed: two ways to write a letter are neither two defects nor two patients.
    defect, group = (normalize("NFC", image.get(key, "")) for key in ("defect", "group"))
    return Record(image["source"], split, gt_label, defect, group or None, mask or None)


def _is_judged(card: DatasetCard, image: Mapping[str, str]) -> bool:
    """Tell whether a mask is of use: in the test alone, or where that may yet be drawn.

    ground_truth/hole/0_mask.png belongs to test/hole/0.png, whatever train/hole/0.png may show.
    """
    stated = image.get("split", "")
    tested = not stated or card.layout.splits.get(stated) == Split.TEST
    return tested and image["defect"] != card.layout.normal


def _look_up(table: Mapping[str, str], name: str, what: str, source: str) -> str:
    if not table.get(name):
        raise DataError(f"the tables have no {what} for {source}: add a row with it.")
    return table[name]


def _mask_names(members: set[str]) -> dict[str, str]:
    """Return member by its path, composed, and by that with `.*` for the extension."""
    wild = {f"{_without_extension(name)}.*": name for name in sorted(members)}
    return {normalize("NFC", path): name for path, name in wild.items()} | {
        normalize("NFC", name): name for name in members
    }


def _without_extension(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem, _, ending = name.rpartition(".")
    return folder + slash + (name if not stem or ending.isdigit() else stem)  # 1.2.840: DICOM


def _check_counts(card: DatasetCard, category: str, records: list[Record]) -> None:
    """Compare the images and masks found with what the card promises, before any is left out."""
    expected = card.counts.get(category)
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
            f"the images are not those of the card ({'; '.join(differing)}). Check the source, or "
            f"correct counts in config/datasets/{card.name}.yaml."
        )
    without = [
        record.source
        for record in records
        if record.split == Split.TEST and record.gt_label == ANOMALOUS and record.mask is None
    ]
    if without and card.layout.mask is not None:
        raise DataError(
            f"{len(without)} anomalous test images have no mask, the first is {without[0]}. Check "
            "the source, or layout.mask of the card."
        )


def _nothing(files: _Files, card: DatasetCard, category: str, not_used: Mapping[str, str]) -> str:
    """Return the sentence for a source in which the card finds no image."""
    of = "" if category == "all" else f" of the category {category}"
    found = f"the first of {len(files.names)} files is {min(files.names, default='none')}"
    told = f"no image{of} is where the card {card.name} looks ({found})."
    if meant := next((why for why in not_used.values() if "mean" in why), None):
        return f"{told} {meant[0].upper()}{meant[1:]}"
    if unread := next((name for name, why in not_used.items() if why == UNREAD), None):
        return f"{told} {unread} has {UNREAD}: save such images as PNG."
    if other := _looks_like(files.shown, card):
        return told + other
    if card.has_source:
        own = fitting_card(files.shown, card)
        like = f"; it looks like images of your own, `card: {own}`" if own else ""
        return f"{told} Give the archive as published, or the folder that it unpacks to{like}."
    return f"{told} It reads: {card.notes}"


def _looks_like(paths: list[str], card: DatasetCard) -> str:
    """Return the sentence about another card for one's own images that finds these; else none."""
    other = None if card.has_source else fitting_card(paths, card)
    return f" This looks like the card {other}: write `card: {other}`." if other else ""


def _check_text(record: Record) -> None:
    """Check what is shown of an image: its path, its label, its group."""
    if UNSEEN.search(record.source):
        raise DataError(
            f"the path {one_line(record.source)} holds characters that cannot be seen: rename it."
        )
    for what, text in (("label", record.defect), ("group", record.group)):
        if text is not None and (why := label_fault(text)):
            raise DataError(
                f"the {what} {one_line(text)!r} of {record.source} {why}: write another."
            )


def label_counts(records: Iterable[Record]) -> str:
    """Return each label with the number of its images."""
    labels = sorted(Counter(record.defect for record in records).items())
    more = f" and {len(labels) - MOST_LABELS} others" if len(labels) > MOST_LABELS else ""
    return ", ".join(f"{label} ({number})" for label, number in labels[:MOST_LABELS]) + more


def check_labels(card: DatasetCard, found: Found) -> None:
    """Check that labels differ in more than case and blanks, and that there are normals to train.

    Raises:
        DataError: names the labels, and how many images have each.
    """
    normal, told = card.layout.normal, label_counts(found.records)
    spelled: dict[str, str] = {}
    for label in dict.fromkeys([normal, *(record.defect for record in found.records)]):
        plain = re.sub(r"[\W_]+", "", normalize("NFKC", label).casefold())
        other = spelled.setdefault(plain, label)
        if other != label:
            raise DataError(
                f"the labels {other!r} and {label!r} differ in case, blanks or signs alone: spell "
                f"them alike; {normal!r} means normal. There are: {told}."
            )
        if not card.has_source and label != normal and close_to(label, [normal], 0.82):
            raise DataError(
                f"the label {label!r} is nearly {normal!r}, which means normal: spell it so, or "
                f"call the defect something else. There are: {told}."
            )
    if not any(r.gt_label == NORMAL and r.split != Split.TEST for r in found.records):
        unused = [f"{name} ({why})" for name, why in found.not_used.items() if why != NO_IMAGE]
        more = f" Not used are {len(unused)} files, such as {unused[0]}." if unused else ""
        raise DataError(
            f"no image to train on is normal, which the card calls {normal!r}. There are: {told}."
            f"{more}"
        )
