"""Measure the complexity of each validation and test image (aeflow.scoring.complexity)."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.data.prepared import open_prepared
from aeflow.questions.results import write_table
from aeflow.scoring.complexity import complexity_table


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("images", "masks", "index"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--complexity", type=Path, required=True, help="CSV to write")
    args = parser.parse_args(arguments)
    prepared = open_prepared(args.images, args.masks, args.index)
    write_table(complexity_table(prepared), args.complexity)


if __name__ == "__main__":
    script(main)
