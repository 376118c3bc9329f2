"""From an archive to the arrays that everything else reads."""

import csv
import io
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aeflow.core.errors import DataError
from aeflow.core.files import atomic_path
from aeflow.core.types import ANOMALOUS, INDEX_COLUMNS, NORMAL, Split
from aeflow.data.archives import content_digest, open_archive
from aeflow.data.not_used import NO_IMAGE
from aeflow.data.prepared import UNKNOWN
from aeflow.data.records import Record, check_labels, count_records, find_records
from aeflow.data.splits import assign_splits
from aeflow.data.workers import (
    Job,
    archive_workers,
    create_rows,
    decode_images,
    hash_images,
    keep_rows,
    open_rows,
)
from aeflow.study.cards import DatasetCard
from aeflow.study.settings import DataSettings

logger = logging.getLogger(__name__)
Level = Literal["ok", "note", "error"]
Tell = Callable[[Level, str], None]
PARTS = ("validation_normal", "validation_anomalous", "test_normal", "test_anomalous")
FEW = 20  # training normals, below which results depend on single images
MOST_FOLDERS = 20  # of files that are not used, by name
LEFT_OUT = {
    "dropped_duplicates": (logging.WARNING, "left out of training, their bytes are in the test"),
    "dropped_groups": (logging.WARNING, "left out of training, their group is in the test"),
    "shared_groups": (logging.WARNING, "trained on, although their group is in the test"),
    "dropped_validation": (logging.WARNING, "left out of validation, related to train or test"),
    "dropped_anomalies": (logging.INFO, "anomalous beyond what validation may see"),
    "drawn_test": (logging.INFO, "drawn for the test, which the dataset lacks"),
}


def check_images(
    archive: Path,
    card: DatasetCard,
    category: str,
    settings: DataSettings,
    pool: ProcessPoolExecutor,
    tell: Tell,
) -> tuple[list[Record], dict[str, Any]]:
    """Find a category's images and split them, and tell what is right, notable and wrong.

    Wrong is what a model must not learn from: normal images that are in two of the dataset's
    own splits. How many of them are left out, as the card's protocol says, goes to the log.

    Returns:
        The images in use, in their splits, and the facts of a receipt.
    """
    with open_archive(archive) as opened:
        try:
            records, used, _, not_used = find_records(opened, card, category)
            check_labels(card, records)
        except DataError as error:
            raise type(error)(f"{card.name}/{category}: {error}") from error
    found = count_records(records)
    told = ", ".join(f"{found[key]} {key}" for key in sorted(found) if "_" in key)
    if card.counts[category] is None:
        tell("note", f"{told}; the card does not say how many")
    else:
        tell("ok", f"{told}, as on the card")
    for reason, paths in _by_reason(not_used).items():
        told = f"files not used, {reason}: {len(paths)}, such as {paths[0]}"
        tell("note", told)
        if not card.has_source and reason != NO_IMAGE:  # of one's own: it was put there to be used
            logger.warning("%s/%s: %s", card.name, category, told)
    digests = hash_images(pool, [record.source for record in records])
    records = [replace(record, sha256=sha) for record, sha in zip(records, digests, strict=True)]
    others = sorted(used - {record.source for record in records})
    known = {record.source: record.sha256 for record in records}
    known |= dict(zip(others, hash_images(pool, others) if others else [], strict=True))
    files = _tied((record.sha256, record) for record in records)
    duplicates = [tied for tied in files if len(tied) > 1]
    groups = _tied((record.group, record) for record in records if record.group is not None)
    facts: dict[str, Any] = {
        "content": content_digest(known),
        "found": dict(sorted(found.items())),
        "not_used": {why: _by_folder(paths) for why, paths in _by_reason(not_used).items()},
        "duplicates": _tell_shared(duplicates, "byte-identical {} images", tell),
        "groups": _tell_shared(groups, "patients or groups with {} images", tell),
    }
    contradicting = [tied for tied in duplicates if len({r.gt_label for r in tied}) > 1]
    facts["contradicting"] = len(contradicting)
    if contradicting:
        first, *_, other = sorted(contradicting[0], key=lambda record: record.gt_label)
        told = (
            f"images with the same bytes are normal and anomalous: {len(contradicting)}, such as "
            f"{first.source} ({first.defect}) and {other.source} ({other.defect})"
        )
        tell("error", told)
        logger.warning("%s/%s: %s", card.name, category, told)
    if not duplicates:
        tell("ok", "no two images are byte-identical")
    elif not facts["duplicates"]["in_two_splits"]:
        tell("note", f"groups of byte-identical images: {len(duplicates)}, none in two splits")
    if not groups and card.has_source:
        tell("note", "no patients or groups are known")
    elif groups and not facts["groups"]["in_two_splits"]:
        tell("ok", f"patients or groups: {len(groups)}, none in two splits")
    splits = assign_splits(records, settings, card.split, card.layout.test_fraction)
    for key, (level, what) in LEFT_OUT.items():
        facts[key] = number = getattr(splits, key)
        if number:
            logger.log(level, "%s/%s: %d images %s", card.name, category, number, what)
    in_use = count_records(splits.records)
    for why in _lacking(in_use, groups=bool(groups) or card.has_source):
        tell("note", why)
        logger.warning("%s/%s: %s", card.name, category, why)
    told = ", ".join(f"{in_use[split]} {split}" for split in Split)
    shared = "train and test share groups" if splits.shared_groups else "none is in two"
    settled = f"{card.split}, val_fraction {settings.val_fraction:g}"
    tell("ok", f"in use ({settled}): {told}; {shared}")
    return splits.records, facts


def prepare_images(
    archive: Path,
    card: DatasetCard,
    category: str,
    settings: DataSettings,
    images_path: Path,
    index_path: Path,
    workers: int,
) -> dict[str, Any]:
    """Decode a category's images into an array, with their splits in an index.

    Writes `images_path` uint8 (N, S, S, 3) and `index_path` with one line per image in the order
    of the rows. They appear when both are complete, the same bytes for any number of workers.

    Args:
        archive: a zip, or a folder.

    Returns:
        The facts of a receipt: what was found, what is in use, what was left out and why.
    """
    side = settings.image_size
    name = f"{card.name}/{category}"

    def log(_: Level, text: str) -> None:
        logger.info("%s: %s", name, text)

    with ExitStack() as stack:
        # The largest last: a full disk is reported by the innermost.
        index, images = (
            stack.enter_context(atomic_path(path)) for path in (index_path, images_path)
        )
        pool = stack.enter_context(archive_workers(archive, workers))
        records, facts = check_images(archive, card, category, settings, pool, log)
        create_rows(images, (len(records), side, side, 3))
        jobs = [Job(record.source, row) for row, record in enumerate(records)]
        unusable = _decode(pool, jobs, settings, images, f"{name}: {{}} images")
        if unusable:
            keep_rows(images, [job.row for job in jobs if job.source not in unusable])
        kept = [record for record in records if record.source not in unusable]
        index.write_text(_index(kept), encoding="utf-8")
        used = count_records(kept)
        counts = {"train": used["train"]} | {part: used[part] for part in PARTS}
        logger.info("%s: %s", name, counts)
        return facts | {"counts": counts, "unusable": unusable}


def prepare_masks(
    archive: Path,
    card: DatasetCard,
    category: str,
    settings: DataSettings,
    index_path: Path,
    masks_path: Path,
    workers: int,
) -> dict[str, Any]:
    """Decode the masks of a category's anomalous test images, in the order of its index.

    Writes `masks_path` uint8 (M, S, S) for M such images: 1 on defects, 0 beside them, and
    `UNKNOWN` all over where there is no mask; without any mask, M is 0.

    Returns:
        The facts of a receipt: how many are known, which cannot be used.
    """
    side, name = settings.image_size, f"{card.name}/{category}"
    with open_archive(archive) as opened:
        found = find_records(opened, card, category)
    masks = {record.source: record.mask for record in found.records}
    judged = [
        row["source"]
        for row in csv.DictReader(io.StringIO(index_path.read_text(encoding="utf-8")))
        if row["split"] == Split.TEST and row["gt_label"] == str(ANOMALOUS)
    ]
    jobs = [Job(source, row, masks.get(source)) for row, source in enumerate(judged)]
    jobs = [job for job in jobs if job.mask is not None]
    with ExitStack() as stack:
        target = stack.enter_context(atomic_path(masks_path))
        pool = stack.enter_context(archive_workers(archive, workers))
        create_rows(target, (len(judged) if jobs else 0, side, side))
        told = f"{name}: {{}} masks"
        unusable = _decode(pool, jobs, settings, target, told) if jobs else {}
        known = {job.row for job in jobs if job.source not in unusable}
        with open_rows(target) as write:
            for row in range(len(judged)) if jobs else []:
                if row not in known:
                    write(row, np.full((side, side), UNKNOWN, np.uint8))
        if jobs and len(known) < len(judged):
            logger.warning(
                "%s: %d of %d anomalous test images have no mask: pixel metrics are without them",
                *(name, len(judged) - len(known), len(judged)),
            )
        files = sorted(found.masks)
        sha256 = dict(zip(files, hash_images(pool, files) if files else [], strict=True))
        facts = {"known": len(known), "anomalous": len(judged), "unusable": unusable}
        return facts | {"content": content_digest(sha256)}


def _decode(
    pool: ProcessPoolExecutor, jobs: Sequence[Job], settings: DataSettings, target: Path, what: str
) -> dict[str, str]:
    """Decode into an array; return source -> reason of what cannot be used.

    Raises:
        DataError: these are more than the settings allow.
    """
    reasons = decode_images(pool, jobs, settings, target)
    found = {job.source: why for job, why in zip(jobs, reasons, strict=True) if why}
    if not found:
        return {}
    listed = "; ".join(f"{source}: {why}" for source, why in list(found.items())[:5])
    more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    counted = what.format(f"{len(found)} of {len(jobs)}")
    message = f"{counted} are unusable ({listed}{more})."
    if len(found) > settings.max_unusable_share * len(jobs):
        raise DataError(
            f"{message} Mend the source, or allow more with data.max_unusable_share "
            f"(now {settings.max_unusable_share})."
        )
    logger.warning("%s", message)
    return found


def _lacking(in_use: Mapping[str, int], groups: bool) -> list[str]:
    """Return what a user must know of images that are not there."""
    found = []
    normal, anomalous = in_use["test_normal"], in_use["test_anomalous"]
    if not normal and not anomalous:
        found.append("no test images: a detector is trained, but nothing tells how good it is")
    elif not normal or not anomalous:
        kind = "anomalous" if normal else "normal"
        found.append(f"no {kind} test images: metrics that need both kinds stay empty")
    if in_use["train"] < FEW:
        found.append(f"few normal images to train on: {in_use['train']}")
    if not groups:
        found.append(
            "no groups are known: if several images show one part or patient, say so in "
            "groups.csv, or some may both train and validate"
        )
    return found


def _tied(keyed: Iterable[tuple[str, Record]]) -> list[list[Record]]:
    """Return the records of each key, in their order."""
    found: dict[str, list[Record]] = defaultdict(list)
    for key, record in keyed:
        found[key].append(record)
    return list(found.values())


def _tell_shared(tied: Sequence[Sequence[Record]], what: str, tell: Tell) -> dict[str, int]:
    """Tell which images that belong together are in two splits; return the numbers.

    "with_normals" are those of which a normal image is outside the test: a model learns from it.
    """
    normal: list[Sequence[Record]] = []
    anomalous: list[Sequence[Record]] = []
    for records in tied:
        if len({record.split for record in records}) > 1:
            learnt = any(r.gt_label == NORMAL and r.split != Split.TEST for r in records)
            (normal if learnt else anomalous).append(records)
    levels: tuple[tuple[Level, str, list[Sequence[Record]]], ...] = (
        ("error", "normal", normal),
        ("note", "anomalous", anomalous),
    )
    for level, kind, shared in levels:
        if shared:
            first = {record.split: record.source for record in shared[0]}
            example = " and ".join(first[split] for split in sorted(first))
            number = len(shared)
            tell(level, f"{what.format(kind)} in two splits: {number}, such as {example}")
    in_two_splits = len(normal) + len(anomalous)
    return {"number": len(tied), "in_two_splits": in_two_splits, "with_normals": len(normal)}


def _by_reason(not_used: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for path, reason in not_used.items():
        reasons[reason].append(path)
    return dict(sorted(reasons.items()))


def _by_folder(paths: Sequence[str]) -> dict[str, int]:
    """Count files per folder; those of the smallest folders together, as there may be many."""
    folders = Counter(path.rpartition("/")[0] + "/" for path in paths)
    listed = dict(folders.most_common(MOST_FOLDERS))
    rest = folders.total() - sum(listed.values())
    return listed | ({"elsewhere": rest} if rest else {})


def _index(records: Sequence[Record]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(INDEX_COLUMNS)
    for r in records:
        table.writerow((r.image_id, r.split, r.gt_label, r.defect, r.group, r.source, r.sha256))
    return text.getvalue()
