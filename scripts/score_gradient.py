"""Score the trivial baseline, the mean absolute vertical gradient (aeflow.baselines)."""

import argparse
from pathlib import Path

from aeflow.baselines import gradient_scores
from aeflow.data.prepared import open_prepared
from aeflow.files import write_json, write_text
from aeflow.logging import script


def main(arguments: list[str]) -> None:
    """Write the score table; there are no maps, hence no pixel metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("images", "masks", "index"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True, help="CSV to write")
    parser.add_argument("--pixel", type=Path, required=True, help="JSON to write")
    args = parser.parse_args(arguments)
    prepared = open_prepared(args.images, args.masks, args.index)
    write_text(args.scores, gradient_scores(prepared).to_csv(index=False))
    write_json(args.pixel, {"pixel": {}})


if __name__ == "__main__":
    script(main)
