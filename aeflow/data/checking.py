"""Whether a dataset is what its card says: archive, counts, and what is in two splits."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

from aeflow.core.errors import DataError
from aeflow.core.files import read_json, sha256_file
from aeflow.core.types import NORMAL, Split
from aeflow.data.archives import open_zip
from aeflow.data.checksums import read_checksums
from aeflow.data.fetch import check_file
from aeflow.data.records import Record, count_records, find_records
from aeflow.data.splits import assign_splits
from aeflow.data.workers import archive_workers, hash_images
from aeflow.study.cards import DatasetCard, SourceFile
from aeflow.study.settings import DataSettings


@dataclass(frozen=True)
class Finding:
    """One result of a check: a note is worth knowing, an error fails the check."""

    level: Literal["ok", "note", "error"]
    text: str


def check_fetched(card: DatasetCard, archive: Path, manifest_path: Path) -> Iterator[Finding]:
    """Compare a fetched archive with its manifest, and the manifest with the card's checksums.

    Args:
        card: The dataset's card.
        archive: The zip that `fetch_dataset` placed.
        manifest_path: The JSON that it wrote.
    """
    manifest = read_json(manifest_path)
    placed = sha256_file(archive)
    if placed != manifest["placed_sha256"]:
        was = manifest["placed_sha256"]
        yield Finding("error", f"{archive} was changed: sha256 {placed}, when fetched {was}")
        return
    yield Finding("ok", f"{archive} is what was fetched, sha256 {placed}")
    wanted = {file.name: file for file in read_checksums(card)}
    for found in manifest["files"]:
        file = wanted.pop(found["name"], None)
        if file is None:
            yield Finding("note", f"{found['name']} is not the card's: a source of your own")
        elif not found["sha256"].startswith(file.sha256 or ""):
            yield Finding("error", f"{file.name} has sha256 {found['sha256']}, not {file.sha256}")
        elif file.sha256 is None and file.md5 is None:
            yield Finding("note", f"{file.name}: no checksum is known")
        else:
            yield Finding("ok", f"{file.name} has the checksum it should have")


def check_copy(file: SourceFile, path: Path) -> Iterator[Finding]:
    """Tell whether an archive of the user's own is the card's file; it need not be."""
    if file.sha256 is None and file.md5 is None:
        yield Finding("note", f"{path}: no checksum is known, sha256 {sha256_file(path)}")
        return
    try:
        check_file(file, path)
        yield Finding("ok", f"{path} is the card's {file.name}")
    except DataError:
        yield Finding(
            "note", f"{path} is not the card's {file.name}: its checksum does not apply to a copy"
        )


def check_images(card: DatasetCard, archive: Path) -> Iterator[Finding]:
    """Check the images of every category: counts, duplicates, groups, and the splits in use.

    Args:
        card: The dataset's card.
        archive: A zip, as `fetch_dataset` places it.

    Raises:
        DataError: the archive cannot be read.
    """
    with open_zip(archive) as opened, archive_workers(archive, os.cpu_count() or 1) as pool:
        for category in card.categories:
            for finding in _check_category(card, category, opened, pool):
                yield replace(finding, text=f"{category}: {finding.text}")


def _check_category(
    card: DatasetCard, category: str, archive: ZipFile, pool: ProcessPoolExecutor
) -> Iterator[Finding]:
    try:
        records = find_records(archive, card, category)
        digests = hash_images(pool, [record.source for record in records])
    except DataError as error:
        yield Finding("error", str(error))
        return
    counts = count_records(records)
    found = ", ".join(f"{counts[key]} {key}" for key in sorted(counts) if "_" in key)
    promised = card.counts[category] is not None
    yield Finding(
        "ok" if promised else "note",
        f"{found}{', as on the card' if promised else '; the card does not say how many'}",
    )
    known = [
        replace(record, sha256=digest) for record, digest in zip(records, digests, strict=True)
    ]
    yield from _check_duplicates(known)
    yield from _check_groups(known)
    try:
        splits = assign_splits(known, DataSettings(), card.split, card.layout.test_fraction)
    except DataError as error:
        yield Finding("error", str(error))
        return
    used = count_records(splits.records)
    told = ", ".join(f"{used[split]} {split}" for split in Split)
    shared = (
        "as published, train and test share groups" if splits.shared_groups else "none is in two"
    )
    yield Finding("ok", f"with the default settings ({card.split}): {told}; {shared}")


def _check_duplicates(records: Sequence[Record]) -> Iterator[Finding]:
    files = _by((record.sha256, record) for record in records)
    same = [group for group in files if len(group) > 1]
    across = [group for group in same if _splits(group) > 1]
    harmful = [group for group in across if _trains(group)]
    if not same:
        yield Finding("ok", "no two images are byte-identical")
    elif not across:
        yield Finding("note", f"groups of byte-identical images: {len(same)}, none in two splits")
    if harmful:
        yield Finding("error", _shared(harmful, "byte-identical normal images"))
    if len(across) > len(harmful):
        others = [group for group in across if not _trains(group)]
        yield Finding("note", _shared(others, "byte-identical anomalous images"))


def _check_groups(records: Sequence[Record]) -> Iterator[Finding]:
    groups = _by((record.group, record) for record in records if record.group is not None)
    if not groups:
        yield Finding("note", "no patients or groups are known")
        return
    across = [group for group in groups if _splits(group) > 1]
    harmful = [group for group in across if _trains(group)]
    others = [group for group in across if not _trains(group)]
    if not across:
        yield Finding("ok", f"patients or groups: {len(groups)}, none in two splits")
    if harmful:
        yield Finding("error", _shared(harmful, "patients or groups with normal images"))
    if others:
        yield Finding("note", _shared(others, "patients or groups with anomalous images"))


def _by(pairs: Iterable[tuple[str, Record]]) -> list[list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for key, record in pairs:
        found[key].append(record)
    return list(found.values())


def _splits(records: Sequence[Record]) -> int:
    return len({record.split for record in records})


def _trains(records: Sequence[Record]) -> bool:
    """Tell whether a normal image outside the test is among them: what a model learns from."""
    return any(record.gt_label == NORMAL and record.split != Split.TEST for record in records)


def _shared(groups: Sequence[Sequence[Record]], what: str) -> str:
    first = {record.split: record.source for record in groups[0]}
    example = " and ".join(first[split] for split in sorted(first))
    return f"{what} in two splits: {len(groups)}, such as {example}"
