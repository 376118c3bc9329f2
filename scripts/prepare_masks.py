"""Decode the masks of a dataset's category (aeflow.data.prepare)."""

from pathlib import Path
from typing import Any

from aeflow.data import prepare
from aeflow.data.local_sources import reading
from aeflow.study.asked import PrepareAsked
from aeflow.study.job import job


def prepare_masks(
    asked: PrepareAsked, archive: Path | None, index: Path, masks: Path, workers: int = 1
) -> dict[str, Any]:
    """Write the masks; return how many are known."""
    with reading(asked.source, archive) as place:
        return prepare.prepare_masks(place, asked, index, masks, workers)


if __name__ == "__main__":
    job(prepare_masks)
