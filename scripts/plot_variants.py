"""Draw a dataset's variants and their differences to the reference."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.display.dots import plot_variants
from aeflow.questions.results import read_results
from aeflow.questions.variants import read_comparison


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--results", type=Path, required=True, help="results.csv")
    parser.add_argument("--comparison", type=Path, required=True, help="comparison.csv")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    results, comparison = read_results(options.results), read_comparison(options.comparison)
    plot_variants(results, comparison, options.dataset).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
