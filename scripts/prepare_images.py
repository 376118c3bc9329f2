"""Decode the images of a dataset's category into arrays and split them."""

import argparse
from pathlib import Path

from aeflow.cards import load_dataset_card
from aeflow.data.prepare import prepare_images
from aeflow.files import write_json
from aeflow.logging import script
from aeflow.settings import DataSettings
from aeflow.validation import load_settings


def main(arguments: list[str]) -> None:
    """Write the arrays and the index, then the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="a card in config/datasets/")
    parser.add_argument("--category", required=True)
    parser.add_argument("--settings", required=True, help="DataSettings as JSON")
    parser.add_argument("--archive", required=True, type=Path, help="zip to read")
    parser.add_argument("--images", required=True, type=Path, help="array to write")
    parser.add_argument("--masks", required=True, type=Path, help="array to write")
    parser.add_argument("--index", required=True, type=Path, help="CSV to write")
    parser.add_argument("--manifest", required=True, type=Path, help="JSON to write")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    manifest = prepare_images(
        options.archive,
        load_dataset_card(options.dataset),
        options.category,
        load_settings(DataSettings, options.settings),
        options.images,
        options.masks,
        options.index,
        options.workers,
    )
    write_json(options.manifest, manifest)


if __name__ == "__main__":
    script(main)
