"""Draw the ROC curves of a dataset's variants."""

import argparse
from pathlib import Path

from aeflow.files import read_json
from aeflow.logging import script
from aeflow.reporting.figures import plot_roc


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="of one dataset")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    metrics = [read_json(path) for path in options.metrics]
    plot_roc(metrics).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
