"""Choose a variant per dataset by its validation images."""

import argparse
from pathlib import Path

from aeflow.core.files import write_text
from aeflow.core.job import script
from aeflow.core.types import Split
from aeflow.questions.choice import choice_display, choice_table, choose_settings
from aeflow.questions.results import read_main, write_table
from aeflow.scoring.predictions import load_scorings, read_scored
from aeflow.study.cells import unpack_cells


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument("--cells", required=True, help="JSON (aeflow.study.cells)")
    parser.add_argument("--scorings", required=True, help="JSON (aeflow.scoring.predictions)")
    parser.add_argument("--main", type=Path, required=True, help="main.csv")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--tex", type=Path, required=True)
    options = parser.parse_args(arguments)
    scored = read_scored(
        options.folder,
        unpack_cells(options.cells),
        load_scorings(options.scorings),
        Split.VALIDATION,
    )
    means = read_main(options.main)
    seconds = means[["dataset", "variant", "fit_seconds_mean"]]
    chosen = choose_settings(scored, seconds.rename(columns={"fit_seconds_mean": "fit_seconds"}))
    table = choice_table(chosen, means)
    display = choice_display(table)
    write_table(table, options.csv)
    write_text(options.md, display.markdown())
    write_text(options.tex, display.latex())


if __name__ == "__main__":
    script(main)
