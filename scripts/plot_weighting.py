"""Draw the AUROC over beta of a dataset's trainings."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.questions.weighting import read_sweep, read_weighting
from aeflow.questions.weighting_figure import plot_weighting


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--sweep", type=Path, required=True, help="weighting_sweep.csv")
    parser.add_argument("--chosen", type=Path, required=True, help="weighting.csv")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    sweep, chosen = read_sweep(options.sweep), read_weighting(options.chosen)
    plot_weighting(options.dataset, sweep, chosen).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
