"""What an archive says about its images: by their paths, or in a list."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from zipfile import ZipFile

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.types import ANOMALOUS, NORMAL, Split
from aeflow.data.archives import is_hidden
from aeflow.data.tables import Table, find_tables, read_groups, read_one_hot
from aeflow.study.cards import DatasetCard
from aeflow.study.layouts import Counts


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a dataset.

    Attributes:
        source: Path inside the archive.
        split: What the dataset says it is for, later the split it was assigned to.
        gt_label: 0 normal, 1 anomalous.
        defect: Kind of defect, or the name of the normal class.
        group: Patient, tile or whatever must stay on one side of a split; None if unknown.
        mask: Path of its mask inside the archive; only anomalous test images have one.
        sha256: Of the image file's bytes; empty until it was read.
    """

    source: str
    split: Split
    gt_label: int
    defect: str
    group: str | None = None
    mask: str | None = None
    sha256: str = ""

    @property
    def image_id(self) -> str:
        """The path inside the archive without its extension."""
        return _without_extension(self.source)


def find_records(archive: ZipFile, card: DatasetCard, category: str) -> list[Record]:
    """List the images of a category, sorted by path.

    Members that do not match the card's `layout.image`, and hidden ones, are ignored. Where
    nothing says what an image is for, its split is train: see `layout.test_fraction`.

    Raises:
        ConfigError: the dataset has no such category.
        DataError: the counts differ from the card's; an image lacks its mask, group or label; a
            list names an image twice or one that is not there; or two images differ in nothing
            but their extension.
    """
    card.check_categories([category])
    members = {member.filename for member in archive.infolist() if not member.is_dir()}
    try:
        find = _in_list if card.layout.image_list is not None else _by_path
        found = find(archive, card, members)
        records = [
            _record(card, image)
            for image in sorted(found, key=lambda image: image["source"])
            if category == "all" or image.get("category") == category
        ]
    except DataError as error:
        raise DataError(f"{card.name}: {error}") from error
    if not records:
        example = min(members, default="none")
        wanted = "layout.image_list" if card.layout.image_list else "layout.image"
        raise DataError(
            f"{card.name}/{category}: no path inside the archive matches the card's {wanted} "
            f"(the first of {len(members)} files: {example}). Give the archive as published, or "
            "the folder that it unpacks to."
        )
    counts = card.counts[category]
    if counts is not None:
        _check_counts(card, category, counts, records)
        _check_masks(card, category, records)
    identifiers = Counter(record.image_id for record in records)
    twice = [identifier for identifier, count in identifiers.items() if count > 1]
    if twice:
        raise DataError(f"{card.name}/{category}: two images are called {twice[0]}: rename one.")
    return records


def count_records(records: Iterable[Record]) -> Counter[str]:
    """Count the images per split and label, and per split: the keys of `Counts`."""
    found: Counter[str] = Counter()
    for record in records:
        found[f"{record.split}_{'anomalous' if record.gt_label else 'normal'}"] += 1
        found[str(record.split)] += 1
    return found


def _by_path(archive: ZipFile, card: DatasetCard, members: set[str]) -> list[dict[str, str]]:
    """Return the named parts of every matching path, with source, defect, group and mask."""
    layout = card.layout
    classes = None
    if layout.one_hot is not None:
        classes = read_one_hot(_tables(archive, layout.one_hot, ("image",), "table of classes"))
    groups = None
    if layout.groups is not None:
        tables = find_tables(archive, layout.groups, ("file", "group"))
        if not tables and any(card.counts.values()):
            raise DataError(f"the archive has no {layout.groups}, the table of groups.")
        groups = read_groups(tables) if tables else None
    masks = _mask_names(members) if layout.mask is not None else {}
    images = []
    for source in members:
        found = re.fullmatch(layout.image or "", source)
        if found is None or is_hidden(source):
            continue
        image = {name: value or "" for name, value in found.groupdict().items()}
        image["source"] = source
        name = source.rpartition("/")[2]
        if classes is not None:
            image["defect"] = _look_up(classes, [_without_extension(name)], "class", source)
        if groups is not None:
            image["group"] = _look_up(groups, [source, name], "group", source)
        if layout.mask is not None and image["defect"] != layout.normal:
            image["mask"] = masks.get(layout.mask.format(**image), "")
        images.append(image)
    return images


def _in_list(archive: ZipFile, card: DatasetCard, members: set[str]) -> list[dict[str, str]]:
    """Return the rows of the list, with source and defect."""
    pattern = card.layout.image_list or ""
    images: dict[str, dict[str, str]] = {}
    for table in _tables(archive, pattern, ("path", "label"), "list of images"):
        for row in table.rows:
            source = table.folder + row["path"].removeprefix("./")
            mask = row.get("mask", "") and table.folder + row["mask"].removeprefix("./")
            for path in filter(None, (source, mask)):
                if path not in members:
                    raise DataError(f"{table.path} names {path}, which is not in the archive.")
            if not row["label"]:
                raise DataError(f"{table.path} gives {row['path']} no label.")
            if source in images:
                raise DataError(f"{table.path} names {row['path']} twice.")
            images[source] = row | {"source": source, "defect": row["label"], "mask": mask}
    return list(images.values())


def _record(card: DatasetCard, image: dict[str, str]) -> Record:
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
    mask = image.get("mask") if masked else None
    group = image.get("group") or None
    return Record(image["source"], split, gt_label, image["defect"], group, mask or None)


def _tables(archive: ZipFile, pattern: str, columns: Iterable[str], what: str) -> list[Table]:
    tables = find_tables(archive, pattern, columns)
    if not tables:
        raise DataError(f"the archive has no {pattern}, the {what}.")
    return tables


def _look_up(table: dict[str, str], names: list[str], what: str, source: str) -> str:
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


def _check_counts(
    card: DatasetCard, category: str, expected: Counts, records: list[Record]
) -> None:
    """Compare the images found with the card, before any is left out for whatever reason."""
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


def _check_masks(card: DatasetCard, category: str, records: list[Record]) -> None:
    if card.layout.mask is None:
        return
    without = [
        record.source
        for record in records
        if record.split == Split.TEST and record.gt_label == ANOMALOUS and record.mask is None
    ]
    if without:
        raise DataError(
            f"{card.name}/{category}: {len(without)} anomalous test images have no mask, the "
            f"first is {without[0]}. Check the source, or layout.mask of the card."
        )
