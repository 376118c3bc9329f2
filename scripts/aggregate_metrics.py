"""Collect metrics into results.csv (one row per run) and main.csv (mean and sd over seeds)."""

import argparse
from pathlib import Path

from aeflow.files import read_json
from aeflow.logging import script
from aeflow.reporting.tables import main_table, results_table, write_table


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--main", type=Path, required=True)
    options = parser.parse_args(arguments)
    results = results_table([read_json(path) for path in options.metrics])
    write_table(results, options.results)
    write_table(main_table(results), options.main)


if __name__ == "__main__":
    script(main)
