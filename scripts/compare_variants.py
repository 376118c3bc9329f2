"""Test every variant of a study against the reference."""

import argparse
from pathlib import Path

from aeflow.core.files import write_text
from aeflow.core.job import script
from aeflow.core.types import Split
from aeflow.questions.results import write_table
from aeflow.questions.variants import comparison_display, comparison_table
from aeflow.scoring.predictions import load_scorings, read_scored
from aeflow.study.cells import unpack_cells


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument("--cells", required=True, help="JSON (aeflow.study.cells)")
    parser.add_argument("--scorings", required=True, help="JSON (aeflow.scoring.predictions)")
    parser.add_argument("--reference", required=True, help="a variant")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--tex", type=Path, required=True)
    options = parser.parse_args(arguments)
    scored = read_scored(
        options.folder,
        unpack_cells(options.cells),
        load_scorings(options.scorings),
        Split.TEST,
    )
    table = comparison_table(scored, options.reference)
    display = comparison_display(table)
    write_table(table, options.csv)
    write_text(options.md, display.markdown())
    write_text(options.tex, display.latex())


if __name__ == "__main__":
    script(main)
