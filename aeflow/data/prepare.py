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
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from aeflow.core.errors import DataError
from aeflow.core.files import atomic_path
from aeflow.core.text import guarded
from aeflow.core.types import ANOMALOUS, INDEX_COLUMNS, NORMAL, Split
from aeflow.data.archives import content_digest, open_archive
from aeflow.data.image_files import ImageFacts
from aeflow.data.intensity import MEASURED, Levels, narrow_use, shared_levels
from aeflow.data.not_used import NO_IMAGE
from aeflow.data.prepared import UNKNOWN, read_index
from aeflow.data.records import Record, check_labels, count_records, find_records, label_counts
from aeflow.data.splits import assign_splits
from aeflow.data.workers import (
    Job,
    archive_workers,
    create_rows,
    decode_images,
    keep_rows,
    look_at_images,
    open_rows,
)
from aeflow.study.asked import PrepareAsked
from aeflow.study.settings import DataSettings

logger = logging.getLogger(__name__)
Level = Literal["ok", "note", "error"]
Tell = Callable[[Level, str], None]
Key = TypeVar("Key")
Item = TypeVar("Item")
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


class Checked(NamedTuple):
    """A category's images, before they are decoded."""

    records: list[Record]  # in use, in their splits
    facts: dict[str, Any]  # of a receipt
    looks: dict[str, ImageFacts | str]  # source -> what it is, or why it cannot be used


def check_images(
    archive: Path,
    asked: PrepareAsked,
    pool: ProcessPoolExecutor,
    tell: Tell,
    measured: bool = False,
) -> Checked:
    """Find a category's images and split them, and tell what is right, notable and wrong.

    Wrong is what a model must not learn from: normal images that are in two of the dataset's
    own splits. How many of them are left out, as the card's protocol says, goes to the log.

    Args:
        archive: a zip, or a folder.
        pool: of `archive_workers`.
        tell: takes what is found.
        measured: whether every image is decoded too, and its levels measured.
    """
    card, category, settings, name = asked.card, asked.category, asked.data, asked.name

    def warn(text: str, level: Level = "note") -> None:
        tell(level, text)
        logger.warning("%s: %s", name, text)

    with open_archive(archive) as opened:
        try:
            listed = find_records(opened, card, category)
            check_labels(card, listed)
        except DataError as error:
            raise type(error)(f"{name}: {error}") from error
    records = listed.records
    found = count_records(records)
    told = ", ".join(f"{found[key]} {key}" for key in sorted(found) if "_" in key)
    if card.counts.get(category) is None:
        tell("note", f"{told}; the card does not say how many")
    else:
        tell("ok", f"{told}, as on the card")
    tell("ok", f"labels: {label_counts(records)}")
    for note in listed.notes:
        warn(note)
    not_used = _tied((reason, path) for path, reason in listed.not_used.items())
    for reason, paths in sorted(not_used.items()):
        told = f"files not used, {reason}: {len(paths)}, such as {paths[0]}"
        if card.has_source or reason == NO_IMAGE:
            tell("note", told)
        else:  # of one's own: it was put there to be used
            warn(told)
    seen = look_at_images(pool, [record.source for record in records], settings, measured)
    looks = {record.source: look.found for record, look in zip(records, seen, strict=True)}
    records = [replace(record, sha256=s.sha256) for record, s in zip(records, seen, strict=True)]
    files = _tied((record.sha256, record) for record in records)
    duplicates = [tied for tied in files.values() if len(tied) > 1]
    tied_by_group = _tied((record.group, record) for record in records if record.group is not None)
    groups = list(tied_by_group.values())
    facts: dict[str, Any] = {
        "content": content_digest({record.source: record.sha256 for record in records}),
        "found": dict(sorted(found.items())),
        "not_used": {why: _by_folder(paths) for why, paths in not_used.items()},
        "kinds": _tell_kinds(looks, tell, measured),
        "duplicates": _tell_shared(duplicates, "byte-identical {} images", tell),
        "groups": _tell_shared(groups, "patients or groups with {} images", tell),
    }
    contradicting = [tied for tied in duplicates if len({r.gt_label for r in tied}) > 1]
    facts["contradicting"] = len(contradicting)
    if contradicting:
        first, *_, other = sorted(contradicting[0], key=lambda record: record.gt_label)
        warn(
            f"images with the same bytes are normal and anomalous: {len(contradicting)}, such as "
            f"{first.source} ({first.defect}) and {other.source} ({other.defect})",
            "error",
        )
    if not duplicates:
        tell("ok", "no two images are byte-identical")
    elif not facts["duplicates"]["in_two_splits"]:
        tell("note", f"groups of byte-identical images: {len(duplicates)}, none in two splits")
    if not groups and card.has_source:
        tell("note", "no patients or groups are known")
    elif groups and not facts["groups"]["in_two_splits"]:
        tell("ok", f"patients or groups: {len(groups)}, none in two splits")
    fraction = None if listed.stated else card.layout.test_fraction
    splits = assign_splits(records, settings, card.split, fraction)
    for key, (level, what) in LEFT_OUT.items():
        facts[key] = number = getattr(splits, key)
        if number:
            logger.log(level, "%s: %d images %s", name, number, what)
    in_use = count_records(splits.records)
    alone = 0 if card.has_source else sum(record.group is None for record in records)
    for why in _lacking(in_use, len(records), alone):
        warn(why)
    told = ", ".join(f"{in_use[split]} {split}" for split in Split)
    shared = "train and test share groups" if splits.shared_groups else "none is in two"
    settled = f"{card.split}, val_fraction {settings.val_fraction:g}"
    tell("ok", f"in use ({settled}): {told}; {shared}")
    return Checked(splits.records, facts, looks)


def prepare_images(
    archive: Path, asked: PrepareAsked, images_path: Path, index_path: Path, workers: int
) -> dict[str, Any]:
    """Decode a category's images into an array, with their splits in an index.

    Writes `images_path` uint8 (N, S, S, 3) and `index_path` with one line per image in the order
    of the rows. They appear when both are complete, the same bytes for any number of workers.

    Returns:
        The facts of a receipt: what was found, what is in use, what was left out and why.
    """
    settings, name, side = asked.data, asked.name, asked.data.image_size

    def log(_: Level, text: str) -> None:
        logger.info("%s: %s", name, text)

    with ExitStack() as stack:
        # The largest last: a full disk is reported by the innermost.
        index, images = (
            stack.enter_context(atomic_path(path)) for path in (index_path, images_path)
        )
        pool = stack.enter_context(archive_workers(archive, workers))
        records, facts, looks = check_images(archive, asked, pool, log)
        create_rows(images, (len(records), side, side, 3))
        jobs = [Job(record.source, row) for row, record in enumerate(records)]
        normals = [r.source for r in records if r.split == Split.TRAIN and r.gt_label == NORMAL]
        deep = [s for s in normals if isinstance(seen := looks[s], ImageFacts) and seen.deep]
        levels = _levels(pool, deep, settings)
        told = f"{name}: {{}} images"
        decoded, unusable = _decode(pool, jobs, settings, images, told, levels)
        facts["intensity"] = _tell_intensity(name, decoded, normals, levels)
        if unusable:
            keep_rows(images, [job.row for job in jobs if job.source not in unusable])
        kept = [record for record in records if record.source not in unusable]
        index.write_text(_index(kept), encoding="utf-8")
        used = count_records(kept)
        counts = {"train": used["train"]} | {part: used[part] for part in PARTS}
        logger.info("%s: %s", name, counts)
        return facts | {"counts": counts, "unusable": unusable}


def prepare_masks(
    archive: Path, asked: PrepareAsked, index_path: Path, masks_path: Path, workers: int
) -> dict[str, Any]:
    """Decode the masks of a category's anomalous test images, in the order of its index.

    Writes `masks_path` uint8 (M, S, S) for M such images: 1 on defects, 0 beside them, and
    `UNKNOWN` all over where there is no mask; without any mask, M is 0.

    Returns:
        The facts of a receipt: how many are known, which cannot be used.
    """
    settings, name, side = asked.data, asked.name, asked.data.image_size
    with open_archive(archive) as opened:
        found = find_records(opened, asked.card, asked.category)
    masks = {record.source: record.mask for record in found.records}
    index = read_index(index_path)
    judged = index["source"][(index["split"] == Split.TEST) & (index["gt_label"] == ANOMALOUS)]
    jobs = [Job(source, row, masks.get(source)) for row, source in enumerate(judged)]
    jobs = [job for job in jobs if job.mask is not None]
    with ExitStack() as stack:
        target = stack.enter_context(atomic_path(masks_path))
        pool = stack.enter_context(archive_workers(archive, workers))
        create_rows(target, (len(judged) if jobs else 0, side, side))
        told = f"{name}: {{}} masks"
        unusable = _decode(pool, jobs, settings, target, told)[1] if jobs else {}
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
        seen = look_at_images(pool, files, settings, measured=False) if files else []
        sha256 = {file: look.sha256 for file, look in zip(files, seen, strict=True)}
        facts = {"known": len(known), "anomalous": len(judged), "unusable": unusable}
        return facts | {"content": content_digest(sha256)}


def _levels(
    pool: ProcessPoolExecutor, sources: Sequence[str], settings: DataSettings
) -> Levels | None:
    """Measure on training normals of more than 8 bits what becomes black and white.

    Returns None where files say it.
    """
    if settings.intensity not in MEASURED or not sources:
        return None
    found = [look.found for look in look_at_images(pool, sources, settings, measured=True)]
    used = [facts.used for facts in found if isinstance(facts, ImageFacts) and facts.used]
    return shared_levels(settings.intensity, used)


def _tell_intensity(
    name: str, decoded: Mapping[str, ImageFacts], normals: Sequence[str], levels: Levels | None
) -> dict[str, Any]:
    """Warn of gray levels that are lost; return what new images need to be treated alike."""
    deep = [facts for facts in decoded.values() if facts.deep]
    if deep and len(deep) < len(decoded):
        logger.warning(
            "%s: %d of %d images have more than 8 bits: data.intensity makes 8 of them, the "
            "others stay as they are, so that one level may be two grays",
            *(name, len(deep), len(decoded)),
        )
    trained = [decoded[source] for source in normals if source in decoded]
    trained = [facts for facts in trained if facts.deep and facts.used]
    used = [facts.used for facts in trained if facts.used]
    full = [levels] if levels else [facts.full for facts in trained if facts.full]
    why = narrow_use(used, full, measured=levels is not None)
    if why is not None:
        logger.warning("%s: %d training normals: %s", name, len(used), why)
    spans = list(zip(*used, strict=True))
    pooled = [min(spans[0]), min(spans[1]), max(spans[2]), max(spans[3])] if used else None
    return {"deep": len(used), "used": pooled, "levels": levels and list(levels)}


def _decode(
    pool: ProcessPoolExecutor,
    jobs: Sequence[Job],
    settings: DataSettings,
    target: Path,
    what: str,
    levels: Levels | None = None,
) -> tuple[dict[str, ImageFacts], dict[str, str]]:
    """Decode into an array; return by source the facts, and why others cannot be used.

    Raises:
        DataError: these are more than the settings allow.
    """
    results = decode_images(pool, jobs, settings, target, levels)
    judged = {job.source: found for job, found in zip(jobs, results, strict=True)}
    decoded = {source: found for source, found in judged.items() if isinstance(found, ImageFacts)}
    notes = Counter(note for facts in decoded.values() for note in facts.notes)
    for note, number in sorted(notes.items()):
        logger.warning("%s %s", what.format(f"{number} of {len(jobs)}"), note)
    unusable = {source: found for source, found in judged.items() if isinstance(found, str)}
    if not unusable:
        return decoded, {}
    listed = "; ".join(f"{source}: {why}" for source, why in list(unusable.items())[:5])
    more = f"; and {len(unusable) - 5} more" if len(unusable) > 5 else ""
    counted = what.format(f"{len(unusable)} of {len(jobs)}")
    message = f"{counted} are unusable ({listed}{more})."
    if len(unusable) > settings.max_unusable_share * len(jobs):
        raise DataError(
            f"{message} Mend the source, or allow more with data.max_unusable_share "
            f"(now {settings.max_unusable_share})."
        )
    logger.warning("%s", message)
    return decoded, unusable


def _lacking(in_use: Mapping[str, int], images: int, alone: int) -> list[str]:
    """Return what a user must know of images that are not there.

    Of `images` in use or not, no group is known of those `alone`.
    """
    found = []
    normal, anomalous = in_use["test_normal"], in_use["test_anomalous"]
    if not normal and not anomalous:
        found.append("no test images: a detector is trained, but nothing tells how good it is")
    elif not normal or not anomalous:
        kind = "anomalous" if normal else "normal"
        found.append(f"no {kind} test images: metrics that need both kinds stay empty")
    if in_use["train"] < FEW:
        found.append(f"few normal images to train on: {in_use['train']}")
    if alone == images:
        found.append(
            "no groups are known: if several images show one part or patient, say so in "
            "groups.csv, or some may both train and validate"
        )
    elif alone:
        found.append(f"no group is known of {alone} of {images} images: each is taken for its own")
    return found


def _tell_kinds(
    looks: Mapping[str, ImageFacts | str], tell: Tell, measured: bool
) -> list[dict[str, Any]]:
    """Tell what kinds of image files there are, and of those that are none; return the kinds."""
    found = [facts for facts in looks.values() if isinstance(facts, ImageFacts)]
    kinds = image_kinds(found)
    for kind in kinds:
        least, most = ("x".join(map(str, kind[key])) for key in ("smallest", "largest"))
        told = "{images} {format}, bits {bits}, channels {channels}, frames {frames}".format(
            **kind
        )
        told += f", pixels {least if least == most else f'{least} to {most}'}"
        if kind["used"] is not None:
            told += ", levels {:g} to {:g}".format(*kind["used"])
        tell("note" if kind["frames"] > 1 or kind["channels"] > 4 else "ok", told)
    unreadable = {source: why for source, why in looks.items() if isinstance(why, str)}
    if unreadable and measured:
        source, reason = next(iter(unreadable.items()))
        tell("error", f"files that cannot be used: {len(unreadable)}, such as {source}: {reason}")
    used = [facts for facts in found if facts.deep and facts.used]
    why = narrow_use([f.used for f in used if f.used], [f.full for f in used if f.full])
    if why is not None:
        tell("note", f"{len(used)} images of more than 8 bits: {why}")
    return kinds


def image_kinds(found: Iterable[ImageFacts]) -> list[dict[str, Any]]:
    """Group images by format, bits and channels, the most frequent kind first.

    Returns:
        Per kind: `format`, `bits`, `channels`, `images` (their number), `frames` (the most),
        `smallest` and `largest` [width, height] by area, and `used` [lowest, highest] level where
        it was measured, else None.
    """
    tied = _tied(((facts.format, facts.bits, facts.channels), facts) for facts in found)
    kinds: list[dict[str, Any]] = []
    for (kind, bits, channels), alike in sorted(tied.items(), key=lambda e: (-len(e[1]), e[0])):
        sizes = sorted((facts.width * facts.height, facts.size) for facts in alike)
        used = [facts.used for facts in alike if facts.used]
        span = [min(u.lowest for u in used), max(u.highest for u in used)] if used else None
        kinds.append(
            {"format": kind, "bits": bits, "channels": channels, "images": len(alike)}
            | {"frames": max(facts.frames for facts in alike), "used": span}
            | {"smallest": list(sizes[0][1]), "largest": list(sizes[-1][1])}
        )
    return kinds


def _tied(keyed: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    """Return the items of each key, in their order."""
    found: dict[Key, list[Item]] = defaultdict(list)
    for key, item in keyed:
        found[key].append(item)
    return found


def _tell_shared(tied: Sequence[Sequence[Record]], what: str, tell: Tell) -> dict[str, int]:
    """Tell which images that belong together are in two splits; return the numbers.

    "with_normals" are those of which a normal image is outside the test: a model learns from it.
    """
    normal, anomalous = list[Sequence[Record]](), list[Sequence[Record]]()
    for records in tied:
        if len({record.split for record in records}) > 1:
            learnt = any(r.gt_label == NORMAL and r.split != Split.TEST for r in records)
            (normal if learnt else anomalous).append(records)
    for kind, shared in (("normal", normal), ("anomalous", anomalous)):
        if shared:
            first = {record.split: record.source for record in shared[0]}
            example = " and ".join(first[split] for split in sorted(first))
            told = f"{what.format(kind)} in two splits: {len(shared)}, such as {example}"
            tell("error" if shared is normal else "note", told)
    in_two_splits = len(normal) + len(anomalous)
    return {"number": len(tied), "in_two_splits": in_two_splits, "with_normals": len(normal)}


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
        row = (r.image_id, r.split, str(r.gt_label), r.defect, r.group or "", r.source, r.sha256)
        table.writerow(map(guarded, row))
    return text.getvalue()
