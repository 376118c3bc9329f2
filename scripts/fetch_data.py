"""Fetch the archive of a dataset and verify it."""

import argparse
import logging
import os
from pathlib import Path

from aeflow.core.job import script
from aeflow.data.fetch import fetch_dataset
from aeflow.study.cards import load_dataset_card


def main(arguments: list[str]) -> None:
    """Place the archive, then write its manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--card", required=True, help="a card in config/datasets/")
    parser.add_argument("--edition", help="one of the card's editions")
    parser.add_argument("--source", help="URL, local archive or folder instead of the card's")
    parser.add_argument("--sha256", help="checksum of --source")
    parser.add_argument("--archive", required=True, type=Path, help="zip to write")
    parser.add_argument("--manifest", required=True, type=Path, help="JSON to write")
    options = parser.parse_args(arguments)
    # A download is watched: a broken connection, a checksum nobody published.
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING)
    logging.getLogger("aeflow.data").addHandler(warnings)
    card = load_dataset_card(options.card, edition=options.edition)
    mirror = os.environ.get("AEFLOW_MIRROR")
    fetch_dataset(card, options.archive, options.manifest, mirror, options.source, options.sha256)


if __name__ == "__main__":
    script(main)
