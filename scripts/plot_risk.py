"""Draw risk over coverage of a dataset's ensembles."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.questions.certainty import read_ensembles, read_risk
from aeflow.questions.certainty_figure import plot_risk


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--ensembles", type=Path, required=True, help="ensembles.csv")
    parser.add_argument("--risk", type=Path, required=True, help="risk.csv")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    ensembles, risk = read_ensembles(options.ensembles), read_risk(options.risk)
    plot_risk(options.dataset, ensembles, risk).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
