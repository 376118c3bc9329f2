"""Measure the complexity of each validation and test image (aeflow.complexity)."""

import argparse
from pathlib import Path

from aeflow.complexity import complexity_table
from aeflow.data.prepared import open_prepared
from aeflow.logging import script
from aeflow.reporting.tables import write_table


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
