"""Draw a dataset's variants on each of its categories."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.display.dots import plot_categories
from aeflow.questions.categories import read_categories


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--categories", type=Path, required=True, help="categories.csv")
    parser.add_argument("--reference", required=True, help="the variant that sorts")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    table = read_categories(options.categories)
    plot_categories(table, options.dataset, options.reference).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
