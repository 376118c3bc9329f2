"""Train, validation and test: what is in two of them, and how that is prevented."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aeflow.core.errors import DataError
from aeflow.core.types import ANOMALOUS, NORMAL, Split
from aeflow.data.records import Record
from aeflow.study.cards import Protocol
from aeflow.study.settings import DataSettings

GROUP = "group "


@dataclass(frozen=True)
class Splits:
    """The images in use, and how many of those outside the test are left out and why."""

    records: list[Record]  # ordered by split, then path; `split` says where each one belongs
    dropped_duplicates: int = 0  # training normals: the same bytes are in the test
    dropped_groups: int = 0  # training normals: their group is in the test
    shared_groups: int = 0  # training normals in use although their group is in the test
    dropped_validation: int = 0  # of an own validation split: related to train or test
    dropped_anomalies: int = 0  # others that validation may not see, or does not need
    drawn_test: int = 0  # images drawn for the test of a dataset that has none


def assign_splits(
    records: Sequence[Record],
    settings: DataSettings,
    protocol: Protocol = "patient_disjoint",
    test_fraction: float | None = None,
) -> Splits:
    """Decide which images train, validate and test.

    A unit is what must stay together: images of one group, and byte-identical files. Units are
    taken in the order of sha256("<split_seed>:<unit>"), so the split depends neither on the
    order of the archive nor on the machine.

    The test is the dataset's own. A dataset without any gets `test_fraction` of its normal and
    of its anomalous images, in whole units; a unit with both counts as normal.

    Training normals with the bytes of a test image are left out. Those whose group is in the
    test are left out, too (`patient_disjoint`), or train, but never validate (`official`).

    Validation is the dataset's own split where it has one, without images that share a group
    or a file with train or test. Otherwise normal units of the training folder are held out
    until `val_fraction` is reached, and its anomalous units are taken without those that share
    a group or a file with train or test. Either way at most `max_val_anomalous` anomalies are
    used (the last unit may be cut); further ones are not used at all.

    Raises:
        DataError: the training normals are all one unit, or too few are left.
    """
    drawn_test = 0
    if test_fraction is not None and all(record.split != Split.TEST for record in records):
        records = _draw_test(records, test_fraction, settings.split_seed)
        drawn_test = sum(record.split == Split.TEST for record in records)
    test = [record for record in records if record.split == Split.TEST]
    normals = [r for r in records if r.split == Split.TRAIN and r.gt_label == NORMAL]
    files = {record.sha256 for record in test}
    distinct = [record for record in normals if record.sha256 not in files]
    unshared = _unrelated(test, normals)
    usable = distinct if protocol == "official" else unshared
    own = [record for record in records if record.split == Split.VALIDATION]
    clean = _unrelated(test + usable, own)
    if own:
        train = usable
        validation = [record for record in clean if record.gt_label == NORMAL]
        anomalies = [record for record in clean if record.gt_label == ANOMALOUS]
        if not train or not validation:
            raise DataError(
                f"normal images to train on: {len(train)}, to validate: {len(validation)}, but "
                "for those that share a group or a file with the test. One of each is needed."
            )
    else:
        train, validation = _hold_out(usable, test, settings, len(normals) - len(usable))
        folder = [r for r in records if r.split == Split.TRAIN and r.gt_label == ANOMALOUS]
        anomalies = _unrelated(test + train, folder)
    units = _units(anomalies, settings.split_seed)
    chosen = [record for unit in units for record in unit][: settings.max_val_anomalous]
    validation += [replace(record, split=Split.VALIDATION) for record in chosen]

    order = list(Split)
    assigned = [
        record if record.split == Split.TEST else replace(record, mask=None)
        for record in sorted(
            [*train, *validation, *test], key=lambda r: (order.index(r.split), r.source)
        )
    ]
    check_disjoint(assigned, protocol)
    dropped = len(normals) - len(usable) + len(own) - len(clean)
    return Splits(
        assigned,
        dropped_duplicates=len(normals) - len(distinct),
        dropped_groups=len(distinct) - len(usable),
        shared_groups=len(usable) - len(unshared),
        dropped_validation=len(own) - len(clean),
        dropped_anomalies=len(records) - len(assigned) - dropped,
        drawn_test=drawn_test,
    )


def check_disjoint(records: Iterable[Record], protocol: Protocol = "patient_disjoint") -> None:
    """Check that no group and no file content is in two splits.

    By the protocol `official` a group may be in both train and test.

    Raises:
        DataError: names the group or file, and the splits.
    """
    seen: dict[str, dict[Split, Record]] = defaultdict(dict)
    for record in records:
        for key in _keys(record):
            others = seen[key]
            others.setdefault(record.split, record)
            shared = protocol == "official" and key.startswith(GROUP)
            if len(others) > 1 and not (shared and Split.VALIDATION not in others):
                other = next(other for split, other in others.items() if split != record.split)
                raise DataError(
                    f"{record.source} ({record.split}) and {other.source} ({other.split}) share "
                    f"the {key}: the splits leak. Please report this."
                )


def _draw_test(records: Sequence[Record], fraction: float, seed: int) -> list[Record]:
    wanted = {
        label: fraction * sum(record.gt_label == label for record in records)
        for label in (NORMAL, ANOMALOUS)
    }
    drawn = dict.fromkeys(wanted, 0)
    test: set[str] = set()
    units = _units(records, seed, "test ")
    kinds = [min(record.gt_label for record in unit) for unit in units]
    spare = kinds.count(NORMAL) - 2  # one to train and one to validate
    # Not the order of the validation split: that would take the test's neighbours.
    for kind, unit in zip(kinds, units, strict=True):
        if drawn[kind] < wanted[kind] and (kind != NORMAL or spare > 0):
            spare -= kind == NORMAL
            test |= {record.source for record in unit}
            for record in unit:
                drawn[record.gt_label] += 1
    return [
        replace(record, split=Split.TEST) if record.source in test else record
        for record in records
    ]


def _hold_out(
    normals: list[Record], test: list[Record], settings: DataSettings, dropped: int
) -> tuple[list[Record], list[Record]]:
    units = _units(normals, settings.split_seed)
    taken = {record.group for record in test} - {None}
    free = [unit for unit in units if all(record.group not in taken for record in unit)]
    if len(units) < 2 or not free:
        tied = {record.group or "the same bytes" for record in normals}
        why = f", all of one group ({', '.join(tied)})" if len(units) == 1 < len(normals) else ""
        if len(units) > 1:
            why = ", each of a group that the test has too"
        if dropped:
            why += f", but for {dropped} whose bytes or group are in the test"
        raise DataError(
            f"normal images to train on: {len(normals)}{why}. Two are needed that share no group, "
            "one to train and one to validate: add images, or mend the groups."
        )
    if len(free) == len(units):
        free = free[:-1]  # the last unit always trains
    # Of four normals or more, two: a threshold between single images means little.
    wanted = max(settings.val_fraction * len(normals), min(2, len(normals) // 2))
    held: dict[str, Record] = {}
    for unit in free:
        if len(held) < wanted:
            held |= {record.source: replace(record, split=Split.VALIDATION) for record in unit}
    train = [record for unit in units for record in unit if record.source not in held]
    return train, list(held.values())


def _units(records: Sequence[Record], seed: int, purpose: str = "") -> list[list[Record]]:
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

    def place(name: str) -> str:
        return hashlib.sha256(f"{purpose}{seed}:{name}".encode()).hexdigest()

    return [units[name] for name in sorted(units, key=place)]


def _keys(record: Record) -> list[str]:
    """What ties an image to others: its group, its bytes."""
    group = [] if record.group is None else [f"{GROUP}{record.group}"]
    return [*group, f"sha256 {record.sha256}"]


def _unrelated(others: Iterable[Record], records: Iterable[Record]) -> list[Record]:
    """Return the records that share neither a group nor a file with others."""
    taken = {key for record in others for key in _keys(record)}
    return [record for record in records if taken.isdisjoint(_keys(record))]
