"""Draw published numbers beside ours."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.display.dots import plot_claims
from aeflow.questions.claims import read_claims


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--claims", type=Path, required=True, help="claims.csv")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    plot_claims(read_claims(options.claims), options.dataset).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
