"""Decode the masks of a dataset's category (aeflow.data.prepare)."""

from pathlib import Path
from typing import Any

from aeflow.data import prepare
from aeflow.data.local_sources import unchanged
from aeflow.study.asked import PrepareAsked
from aeflow.study.job import job


def prepare_masks(
    asked: PrepareAsked, archive: Path | None, index: Path, masks: Path, workers: int = 1
) -> dict[str, Any]:
    """Write the masks; return how many are known."""
    place = asked.source or archive
    assert place is not None, "an archive, or a folder that is read where it is"
    with unchanged(place):
        return prepare.prepare_masks(
            place, asked.card, asked.category, asked.data, index, masks, workers, asked.dataset
        )


if __name__ == "__main__":
    job(prepare_masks)
