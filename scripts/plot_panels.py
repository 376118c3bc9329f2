"""Draw example images of a run: the best, the worst and the borderline cases."""

import argparse
from pathlib import Path

from aeflow.core.files import read_json
from aeflow.core.job import script
from aeflow.questions.panels import plot_panels
from aeflow.scoring.gallery import read_gallery
from aeflow.scoring.score_tables import read_scores


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--scored", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    gallery = read_gallery(options.gallery)
    scores = read_scores(options.scores, options.scored)
    plot_panels(gallery, scores, read_json(options.metrics)).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
