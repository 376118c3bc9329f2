"""From an archive to the arrays that everything else reads."""

import csv
import io
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from aeflow.core.errors import DataError
from aeflow.core.files import atomic_path, sha256_file
from aeflow.core.types import INDEX_COLUMNS, Split
from aeflow.data.archives import open_zip
from aeflow.data.arrays import create_rows, keep_rows
from aeflow.data.records import Record, count_records, find_records
from aeflow.data.splits import assign_splits
from aeflow.data.workers import Job, archive_workers, decode_images, hash_images
from aeflow.study.cards import DatasetCard
from aeflow.study.settings import DataSettings

logger = logging.getLogger(__name__)
PARTS = ("train", "validation_normal", "validation_anomalous", "test_normal", "test_anomalous")


def prepare_images(
    archive: Path,
    card: DatasetCard,
    category: str,
    settings: DataSettings,
    images_path: Path,
    masks_path: Path,
    index_path: Path,
    workers: int,
) -> dict[str, Any]:
    """Decode a category's images into arrays, with their splits in an index.

    Writes `images_path` uint8 (N, S, S, 3), `masks_path` uint8 0/1 (M, S, S) for the M test
    images that have a mask file, and `index_path` with one line per image in the order of the
    rows. They appear when all are complete, the same bytes for any number of workers.

    Args:
        archive: The zip that `fetch_archive` placed.
        card: The dataset's card.
        category: One of the card's categories.
        settings: Image size, splits, how many images may be unusable.
        images_path: `images.npy`.
        masks_path: `masks.npy`.
        index_path: `index.csv`.
        workers: Processes.

    Returns:
        The manifest: counts, checksums, settings, what was left out and why.

    Raises:
        ConfigError: the dataset has no such category.
        DataError: the archive is not what the card says, too many images are unusable, or the
            outputs cannot be written.
    """
    with open_zip(archive) as opened:
        records = find_records(opened, card, category)
    side = settings.image_size
    with ExitStack() as stack:
        # The largest last: a full disk is reported by the innermost.
        index, masks, images = (
            stack.enter_context(atomic_path(path))
            for path in (index_path, masks_path, images_path)
        )
        pool = stack.enter_context(archive_workers(archive, workers))
        digests = hash_images(pool, [record.source for record in records])
        known = [
            replace(record, sha256=sha256) for record, sha256 in zip(records, digests, strict=True)
        ]
        splits = assign_splits(known, settings, card.split, card.layout.test_fraction)
        jobs = _jobs(splits.records)
        masked = sum(job.mask is not None for job in jobs)
        create_rows(images, (len(jobs), side, side, 3))
        create_rows(masks, (masked, side, side))
        reasons = decode_images(pool, jobs, settings, images, masks)

        usable = [job for job, reason in zip(jobs, reasons, strict=True) if reason is None]
        unusable = [
            {"source": job.source, "reason": reason}
            for job, reason in zip(jobs, reasons, strict=True)
            if reason is not None
        ]
        if unusable:
            _check_unusable(card, category, unusable, len(jobs), settings.max_unusable_share)
            keep_rows(images, [job.row for job in usable])
            keep_rows(masks, [job.mask_row for job in usable if job.mask_row is not None])
        kept = [splits.records[job.row] for job in usable]
        index.write_text(_index(kept), encoding="utf-8")
        counts = _counts(kept)
        logger.info("%s/%s: %s", card.name, category, counts)
        return {
            "dataset": card.name,
            "category": category,
            "split": card.split,
            "found": dict(sorted(count_records(records).items())),
            "counts": counts,
            "archive_sha256": sha256_file(archive),
            "images_sha256": sha256_file(images),
            "masks_sha256": sha256_file(masks),
            "index_sha256": sha256_file(index),
            "dropped_duplicates": splits.dropped_duplicates,
            "dropped_groups": splits.dropped_groups,
            "shared_groups": splits.shared_groups,
            "dropped_validation": splits.dropped_validation,
            "drawn_test": splits.drawn_test,
            "unusable": unusable,
            "settings": settings.model_dump(mode="json"),
        }


def _jobs(records: Sequence[Record]) -> list[Job]:
    """Give every image its row, and every image with a mask its mask row."""
    jobs = []
    mask_row = 0
    for row, record in enumerate(records):
        if record.mask is None:
            jobs.append(Job(record.source, row))
        else:
            jobs.append(Job(record.source, row, record.mask, mask_row))
            mask_row += 1
    return jobs


def _check_unusable(
    card: DatasetCard, category: str, unusable: list[dict[str, str]], total: int, allowed: float
) -> None:
    listed = "; ".join(f"{entry['source']}: {entry['reason']}" for entry in unusable[:5])
    more = f"; and {len(unusable) - 5} more" if len(unusable) > 5 else ""
    message = (
        f"{card.name}/{category}: {len(unusable)} of {total} images are unusable ({listed}{more})."
    )
    if len(unusable) > allowed * total:
        raise DataError(
            f"{message} Mend the source, or allow more with data.max_unusable_share "
            f"(now {allowed})."
        )
    logger.warning("%s", message)


def _counts(records: Sequence[Record]) -> dict[str, int]:
    found = Counter(
        "train"
        if record.split == Split.TRAIN
        else f"{record.split}_{'anomalous' if record.gt_label else 'normal'}"
        for record in records
    )
    return {part: found[part] for part in PARTS}


def _index(records: Sequence[Record]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(INDEX_COLUMNS)
    for record, job in zip(records, _jobs(records), strict=True):
        table.writerow(
            (
                record.image_id,
                record.split,
                record.gt_label,
                record.defect,
                record.group,
                record.source,
                record.sha256,
                job.mask_row,
            )
        )
    return text.getvalue()
