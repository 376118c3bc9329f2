"""Draw the AUROC of each defect of a dataset."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.questions.defect_figures import plot_defects
from aeflow.questions.defects import read_defects


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--defects", type=Path, required=True, help="defects.csv")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    plot_defects(options.dataset, read_defects(options.defects)).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
