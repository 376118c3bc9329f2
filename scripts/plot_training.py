"""Draw the losses of a variant's trainings, one line per seed."""

import argparse
from pathlib import Path

import pandas as pd

from aeflow.core.job import script
from aeflow.questions.curves import plot_training
from aeflow.questions.results import read_training


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
    parser.add_argument("--history", type=Path, nargs="+", required=True, help="one per seed")
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="in the same order")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    if len(options.history) != len(options.train):
        parser.error("give as many --train as --history files, in the same order of seeds")
    histories = [pd.read_csv(path) for path in options.history]
    trainings = [read_training(path) for path in options.train]
    plot_training(histories, trainings).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
