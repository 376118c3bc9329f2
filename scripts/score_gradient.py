"""Score the trivial baseline, the mean absolute vertical gradient (aeflow.methods.gradient)."""

import argparse
from pathlib import Path

from aeflow.core.job import script
from aeflow.data.prepared import open_prepared
from aeflow.methods.gradient import gradient_scores
from aeflow.scoring.score_tables import write_scores


def main(arguments: list[str]) -> None:
    """Write the score table; there are no maps, hence no pixel metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("images", "masks", "index"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True, help="CSV to write")
    parser.add_argument("--scored", type=Path, required=True, help="JSON to write")
    args = parser.parse_args(arguments)
    prepared = open_prepared(args.images, args.masks, args.index)
    write_scores(args.scores, args.scored, gradient_scores(prepared), pixel={})


if __name__ == "__main__":
    script(main)
