"""Write ablations.csv, .md and .tex: what one key of the configuration changes."""

import argparse
import json
from pathlib import Path

from aeflow.core.files import write_text
from aeflow.core.job import script
from aeflow.questions.ablations import ablations_display, ablations_table
from aeflow.questions.results import read_results, write_table


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="results.csv")
    parser.add_argument("--ablations", required=True, help="JSON (aeflow.study.ablations)")
    for ending in ("csv", "md", "tex"):
        parser.add_argument(f"--{ending}", type=Path, required=True, help="to write")
    options = parser.parse_args(arguments)
    table = ablations_table(read_results(options.results), json.loads(options.ablations))
    shown = ablations_display(table)
    write_table(table, options.csv)
    write_text(options.md, shown.markdown())
    write_text(options.tex, shown.latex())


if __name__ == "__main__":
    script(main)
