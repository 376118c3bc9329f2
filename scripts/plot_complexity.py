"""Draw how a dataset's scores follow image complexity, and what the correction gives."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.questions.complexity import read_corrected, read_correlations
from aeflow.questions.complexity_figures import plot_complexity


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--correlations", type=Path, required=True, help="complexity.csv")
    parser.add_argument("--corrected", type=Path, required=True, help="complexity_corrected.csv")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    correlations = read_correlations(options.correlations)
    corrected = read_corrected(options.corrected)
    plot_complexity(options.dataset, correlations, corrected).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
