"""Collect metrics into results.csv (one row per run) and main.csv (mean and sd over seeds).

The means of main.csv once more as metrics.json, for `dvc metrics`, which reads no CSV.
"""

import argparse
from pathlib import Path

from aeflow.core.files import read_json, write_json
from aeflow.core.job import script
from aeflow.questions.results import headline, main_table, results_table, write_table
from aeflow.study.cells import unpack_cells


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument("--cells", required=True, help="JSON (aeflow.study.cells)")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--main", type=Path, required=True)
    parser.add_argument("--headline", type=Path, required=True, help="JSON to write")
    options = parser.parse_args(arguments)
    metrics = options.folder / "metrics"
    cells = unpack_cells(options.cells)
    results = results_table([read_json(cell.file(metrics, "json")) for cell in cells])
    write_table(results, options.results)
    means = main_table(results)
    write_table(means, options.main)
    write_json(options.headline, headline(means))


if __name__ == "__main__":
    script(main)
