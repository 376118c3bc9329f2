"""Decode the images of a dataset's category into arrays and split them."""

import time
from pathlib import Path
from typing import Any

from aeflow.data import prepare
from aeflow.data.local_sources import reading
from aeflow.study.asked import PrepareAsked
from aeflow.study.job import job


def prepare_images(
    asked: PrepareAsked,
    archive: Path | None,
    images: Path,
    index: Path,
    workers: int = 1,
) -> dict[str, Any]:
    """Write the arrays and the index; return what was found, used and left out."""
    begin = time.perf_counter()
    with reading(asked.source, archive) as place:
        facts = prepare.prepare_images(place, asked, images, index, workers)
    seconds, number = time.perf_counter() - begin, sum(facts["counts"].values())
    print(
        f"{asked.name}: {number} images prepared in {seconds:.1f} s, "
        f"{number / seconds:.0f} per second"
    )
    return facts


if __name__ == "__main__":
    job(prepare_images)
