"""Checksums that no source publishes: recorded at the first download, required from then on.

They live in config/checksums/, not beside the archive: Snakemake deletes a rule's outputs before
each attempt, data/ is not in git, and a file in git makes everyone's download the same. A file is
deleted to accept another version.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aeflow.core.files import read_json, write_json
from aeflow.study.cards import DatasetCard, SourceFile

logger = logging.getLogger(__name__)
CHECKSUMS = Path("config/checksums")


def read_checksums(card: DatasetCard) -> list[SourceFile]:
    """Return the card's files, those without a checksum with the recorded one."""
    path = _record_path(card)
    known = read_json(path) if path.exists() else {}
    files = []
    for file in card.files:
        if _is_unknown(file) and file.name in known:
            logger.warning(
                "%s: the card has no checksum; that of the first download is required (%s, delete "
                "it to accept another file)",
                file.name,
                path,
            )
            file = file.model_copy(update=known[file.name])
        files.append(file)
    return files


def record_checksums(card: DatasetCard, facts: Sequence[dict[str, Any]]) -> None:
    """Record what was fetched of the files whose card has no checksum, if it is not yet.

    Args:
        card: The dataset's card.
        facts: `name`, `sha256`, `size_bytes` of each of its files.
    """
    path = _record_path(card)
    known = read_json(path) if path.exists() else {}
    for file, found in zip(card.files, facts, strict=True):
        if _is_unknown(file) and file.name not in known:
            known[file.name] = {key: found[key] for key in ("sha256", "size_bytes")}
            write_json(path, known)
            logger.warning(
                "%s: the card has no checksum; that of this download, sha256 %s, is required from "
                "now on. It is in %s: commit it, or delete it to accept another file",
                file.name,
                found["sha256"],
                path,
            )


def recorded_note(card: DatasetCard, file: SourceFile) -> str:
    """Return a sentence on where a recorded checksum came from; empty for the card's own."""
    original = next(known for known in card.files if known.name == file.name)
    if file.sha256 is None or not _is_unknown(original):
        return ""
    return (
        f" This checksum is that of the first download: delete {_record_path(card)} to accept "
        "another file."
    )


def _is_unknown(file: SourceFile) -> bool:
    return file.sha256 is None and file.md5 is None


def _record_path(card: DatasetCard) -> Path:
    return CHECKSUMS / f"{card.name}.json"
