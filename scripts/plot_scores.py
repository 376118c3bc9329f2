"""Draw histograms of a run's scores."""

import argparse
from pathlib import Path

from aeflow.core.files import read_json
from aeflow.core.job import script
from aeflow.questions.curves import plot_scores
from aeflow.scoring.score_tables import read_scores


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--scored", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    scores = read_scores(options.scores, options.scored)
    plot_scores(scores, read_json(options.metrics)).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
