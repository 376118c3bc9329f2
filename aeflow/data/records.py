"""What the paths inside an archive say about its images."""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from zipfile import ZipFile

from aeflow.cards import Counts, DatasetCard
from aeflow.data.archives import is_hidden, read_member
from aeflow.errors import ConfigError, DataError
from aeflow.types import ANOMALOUS, NORMAL, Split

GROUP_COLUMNS = ("file", "group")


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a dataset.

    Attributes:
        source: Path inside the archive.
        split: The folder it is in (train or test), later the split it was assigned to.
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
        folder, slash, name = self.source.rpartition("/")
        return folder + slash + (name.rpartition(".")[0] or name)


def find_records(archive: ZipFile, card: DatasetCard, category: str) -> list[Record]:
    """List the images of a category, sorted by path.

    Members that do not match the card's `layout.image`, and hidden ones, are ignored.

    Raises:
        ConfigError: the dataset has no such category.
        DataError: the counts differ from the card's, a test image lacks its mask, an image lacks
            its group, or two images differ in nothing but their extension.
    """
    card.check_categories([category])
    members = {member.filename for member in archive.infolist() if not member.is_dir()}
    groups = _read_groups(archive, card, members)
    records = []
    for source in sorted(members):
        found = re.fullmatch(card.layout.image, source)
        if found is None or is_hidden(source):
            continue
        parts = {name: value or "" for name, value in found.groupdict().items()}
        if parts.get("category", "all") == category:
            records.append(_record(card, source, parts, members, groups))
    _check_counts(card, category, records, members)
    _check_masks(card, category, records)
    identifiers = Counter(record.image_id for record in records)
    twice = [identifier for identifier, count in identifiers.items() if count > 1]
    if twice:
        raise DataError(f"{card.name}/{category}: two images are called {twice[0]}: rename one.")
    return records


def _record(
    card: DatasetCard,
    source: str,
    parts: dict[str, str],
    members: set[str],
    groups: dict[str, str] | None,
) -> Record:
    if parts["split"] not in (Split.TRAIN, Split.TEST):
        raise ConfigError(
            f"config/datasets/{card.name}.yaml: layout.image finds the split '{parts['split']}' "
            f"in {source}; it may be train or test."
        )
    split = Split(parts["split"])
    gt_label = NORMAL if parts["defect"] == card.layout.normal else ANOMALOUS
    mask = None
    # Not in training: ground_truth/hole/0_mask.png belongs to test/hole/0.png, whatever
    # train/hole/0.png may show.
    if card.layout.mask is not None and gt_label == ANOMALOUS and split == Split.TEST:
        mask = card.layout.mask.format(**parts)
        mask = mask if mask in members else None
    group = parts.get("group") or None
    if groups is not None:
        group = groups.get(source) or groups.get(source.rpartition("/")[2]) or None
        if group is None:
            raise DataError(f"{card.name}: {card.layout.groups} has no group for {source}.")
    return Record(source, split, gt_label, parts["defect"], group, mask)


def _read_groups(archive: ZipFile, card: DatasetCard, members: set[str]) -> dict[str, str] | None:
    """Read the groups' CSV: image (path inside the archive, or file name) -> group."""
    name = card.layout.groups
    if name is None:
        return None
    if name not in members:
        raise DataError(f"{card.name}: the archive has no {name}, the table of groups.")
    try:
        text = read_member(archive, name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{card.name}: {name} is no UTF-8 text.") from error
    table = csv.DictReader(io.StringIO(text, newline=""))
    missing = set(GROUP_COLUMNS) - set(table.fieldnames or ())
    if missing:
        raise DataError(f"{card.name}: {name} lacks the column {' and '.join(sorted(missing))}.")
    groups: dict[str, str] = {}
    for row in table:
        file, group = row["file"], row["group"]
        if groups.setdefault(file, group) != group:
            raise DataError(f"{card.name}: {name} gives {file} two groups.")
    return groups


def _check_counts(
    card: DatasetCard, category: str, records: list[Record], members: set[str]
) -> None:
    """Compare the images found with the card, before any is left out for whatever reason."""
    if not records:
        example = min(members, default="none")
        raise DataError(
            f"{card.name}/{category}: no path inside the archive matches the card's layout.image "
            f"(the first of {len(members)} files: {example}). Give the archive as published, or "
            "the folder that it unpacks to."
        )
    found = Counter(
        f"{record.split}_{'anomalous' if record.gt_label else 'normal'}" for record in records
    )
    expected = card.counts[category]
    differing = [
        f"{key}: expected {getattr(expected, key)}, found {found[key]}"
        for key in Counts.model_fields
        if found[key] != getattr(expected, key)
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
