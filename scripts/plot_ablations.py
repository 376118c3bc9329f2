"""Draw what the ablations of a dataset change."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.questions.ablation_figures import plot_ablations
from aeflow.questions.ablations import read_ablations
from aeflow.questions.results import read_results


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--ablations", type=Path, required=True, help="ablations.csv")
    parser.add_argument("--results", type=Path, required=True, help="results.csv")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    ablations, results = read_ablations(options.ablations), read_results(options.results)
    plot_ablations(options.dataset, ablations, results).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
