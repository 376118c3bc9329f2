"""Draw the ROC curves of a dataset's variants."""

import argparse
from pathlib import Path

from aeflow.core.files import read_json
from aeflow.core.job import script
from aeflow.questions.curves import plot_roc
from aeflow.study.cells import unpack_cells


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument("--cells", required=True, help="JSON (aeflow.study.cells), of one dataset")
    parser.add_argument("--png", type=Path, required=True)
    parser.add_argument("--svg", type=Path, required=True)
    options = parser.parse_args(arguments)
    folder = options.folder / "metrics"
    metrics = [read_json(cell.file(folder, "json")) for cell in unpack_cells(options.cells)]
    plot_roc(metrics).save(options.png, options.svg)


if __name__ == "__main__":
    script(main)
