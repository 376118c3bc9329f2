"""Decode the images of a dataset's category into arrays and split them."""

import argparse
import time
from pathlib import Path

from aeflow.core.files import write_json
from aeflow.core.job import script
from aeflow.core.schema import load_settings, validate
from aeflow.data.prepare import prepare_images
from aeflow.study.entries import DatasetEntry
from aeflow.study.settings import DataSettings


def main(arguments: list[str]) -> None:
    """Write the arrays and the index, then the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="name of the study's dataset")
    parser.add_argument("--card", help="its card in config/datasets/, if not of that name")
    parser.add_argument("--edition", help="one of the card's editions")
    parser.add_argument("--split", help="official or patient_disjoint, if not the card's")
    parser.add_argument("--category", required=True)
    parser.add_argument("--settings", required=True, help="DataSettings as JSON")
    parser.add_argument("--archive", required=True, type=Path, help="zip to read")
    parser.add_argument("--images", required=True, type=Path, help="array to write")
    parser.add_argument("--masks", required=True, type=Path, help="array to write")
    parser.add_argument("--index", required=True, type=Path, help="CSV to write")
    parser.add_argument("--manifest", required=True, type=Path, help="JSON to write")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    entry = {key: getattr(options, key) for key in ("card", "edition", "split")}
    dataset = validate(DatasetEntry, {"name": options.dataset, **entry}, "arguments")
    begin = time.perf_counter()
    manifest = prepare_images(
        options.archive,
        dataset.load_card(),
        options.category,
        load_settings(DataSettings, options.settings),
        options.images,
        options.masks,
        options.index,
        options.workers,
    )
    seconds, images = time.perf_counter() - begin, sum(manifest["counts"].values())
    print(
        f"{dataset.name}/{options.category}: {images} images prepared in {seconds:.1f} s, "
        f"{images / seconds:.0f} per second"
    )
    write_json(options.manifest, {**manifest, "dataset": dataset.name})


if __name__ == "__main__":
    script(main)
