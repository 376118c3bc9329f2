"""Train, validation and test: no group and no file content is ever in two of them."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aeflow.data.records import Record
from aeflow.errors import DataError
from aeflow.settings import DataSettings
from aeflow.types import ANOMALOUS, NORMAL, Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """The images in use.

    Attributes:
        records: Ordered by split, then path; `split` says where each one belongs.
        dropped_duplicates: Normal training images left out: the same bytes are in the test.
        dropped_groups: Normal training images left out: their group is in the test.
    """

    records: list[Record]
    dropped_duplicates: int
    dropped_groups: int


def assign_splits(records: Sequence[Record], settings: DataSettings) -> Splits:
    """Hold out validation images from the training folder; the test stays as published.

    A unit is what must stay together: images of one group, and byte-identical files. Units are
    taken in the order of sha256("<split_seed>:<unit>"), so the split depends neither on the
    order of the archive nor on the machine. Normal units go to validation until `val_fraction`
    of the training normals is reached, the others are the training set. Anomalous units go to
    validation up to `max_val_anomalous` images (the last unit may be cut), without those that
    share a group or a file with train or test; the rest is not used.

    Args:
        records: Images of one category, with `sha256`.
        settings: `val_fraction`, `max_val_anomalous` and `split_seed` are used.

    Raises:
        DataError: the training normals are all one unit, or too few are left.
    """
    test = [record for record in records if record.split == Split.TEST]
    folder = [record for record in records if record.split == Split.TRAIN]
    normals = [record for record in folder if record.gt_label == NORMAL]
    distinct = _without_files_of(test, normals)
    usable = _without_groups_of(test, distinct)
    dropped = len(normals) - len(distinct), len(distinct) - len(usable)
    if any(dropped):
        logger.warning(
            "Left out of training: %d normal images whose bytes and %d whose group are also in "
            "the test",
            *dropped,
        )
    train, validation = _hold_out(usable, settings)

    anomalies = [record for record in folder if record.gt_label == ANOMALOUS]
    unrelated = _without_groups_of(test + train, _without_files_of(test + train, anomalies))
    chosen = [record for unit in _units(unrelated, settings.split_seed) for record in unit][
        : settings.max_val_anomalous
    ]
    validation += [replace(record, split=Split.VALIDATION) for record in chosen]
    logger.info(
        "Validation anomalies: %d of the %d in the training folder; %d share a group or a file "
        "with train or test",
        len(chosen),
        len(anomalies),
        len(anomalies) - len(unrelated),
    )

    order = list(Split)
    assigned = sorted(
        [*train, *validation, *test], key=lambda record: (order.index(record.split), record.source)
    )
    check_disjoint(assigned)
    return Splits(assigned, *dropped)


def check_disjoint(records: Iterable[Record]) -> None:
    """Check that no group and no file content is in two splits.

    Raises:
        DataError: names the group or file, and the splits.
    """
    seen: dict[str, Record] = {}
    for record in records:
        for key in _keys(record):
            other = seen.setdefault(key, record)
            if other.split != record.split:
                raise DataError(
                    f"{record.source} ({record.split}) and {other.source} ({other.split}) share "
                    f"the {key}: the splits leak. Please report this."
                )


def _hold_out(normals: list[Record], settings: DataSettings) -> tuple[list[Record], list[Record]]:
    units = _units(normals, settings.split_seed)
    if len(units) < 2:
        raise DataError(
            f"The {len(normals)} usable training normals belong to {len(units)} group(s): at "
            "least two are needed, one to train and one to validate."
        )
    wanted = settings.val_fraction * len(normals)
    train: list[Record] = []
    validation: list[Record] = []
    for position, unit in enumerate(units):
        # The last unit always trains.
        if len(validation) < wanted and position < len(units) - 1:
            validation += [replace(record, split=Split.VALIDATION) for record in unit]
        else:
            train += unit
    return train, validation


def _units(records: Sequence[Record], seed: int) -> list[list[Record]]:
    """Return the units in their hashed order, the images of each sorted by path."""
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        while parents[key] != key:
            parents[key] = key = parents[parents[key]]
        return key

    for record in records:
        keys = _keys(record)
        for key in keys:
            parents.setdefault(key, key)
        low, high = sorted((root(keys[0]), root(keys[-1])))
        parents[high] = low  # the smallest key names the unit, whatever the order
    units: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.source):
        units[root(_keys(record)[0])].append(record)
    return [units[name] for name in sorted(units, key=lambda name: _hash(seed, name))]


def _hash(seed: int, unit: str) -> str:
    return hashlib.sha256(f"{seed}:{unit}".encode()).hexdigest()


def _keys(record: Record) -> list[str]:
    """What ties an image to others: its group, its bytes."""
    group = [] if record.group is None else [f"group {record.group}"]
    return [*group, f"sha256 {record.sha256}"]


def _without_files_of(others: Iterable[Record], records: Iterable[Record]) -> list[Record]:
    taken = {record.sha256 for record in others}
    return [record for record in records if record.sha256 not in taken]


def _without_groups_of(others: Iterable[Record], records: Iterable[Record]) -> list[Record]:
    taken = {record.group for record in others} - {None}
    return [record for record in records if record.group not in taken]
