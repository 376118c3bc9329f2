"""Fetch the archive of a dataset and verify it."""

import logging
import os
from pathlib import Path
from typing import Any

from aeflow.data.download import TOLD
from aeflow.data.fetch import fetch_dataset
from aeflow.study.asked import FetchAsked
from aeflow.study.job import job


def fetch_data(asked: FetchAsked, archive: Path) -> dict[str, Any]:
    """Place the archive; return what it was made from."""
    mirror = os.environ.get("AEFLOW_MIRROR")
    return fetch_dataset(asked.card, archive, mirror, asked.source, asked.sha256)


if __name__ == "__main__":
    # A download is watched: a broken connection, a checksum nobody published.
    watched = logging.StreamHandler()
    watched.setLevel(TOLD)
    logging.getLogger("aeflow.data").addHandler(watched)
    job(fetch_data)
