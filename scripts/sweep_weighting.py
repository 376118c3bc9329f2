"""Sweep beta over the stored score components of every training, and choose it on validation."""

import argparse
import json
from pathlib import Path

from aeflow.core.files import write_text
from aeflow.core.job import script
from aeflow.judging.weighting import weighting_sweep
from aeflow.questions.results import write_table
from aeflow.questions.weighting import (
    NAMED_BETAS,
    average_categories,
    sweep_table,
    weighting_display,
    weighting_table,
)
from aeflow.scoring.score_tables import read_cell_scores
from aeflow.study.cells import unpack_cells


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument(
        "--cells", required=True, help="JSON (aeflow.study.cells): trainings of the method aeflow"
    )
    parser.add_argument("--betas", required=True, help="JSON: a list of weights in [0, 1]")
    parser.add_argument("--sweep", type=Path, required=True, help="output: every beta, CSV")
    parser.add_argument("--csv", type=Path, required=True, help="output: the chosen ones")
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--tex", type=Path, required=True)
    options = parser.parse_args(arguments)
    betas = sorted({*json.loads(options.betas), *NAMED_BETAS.values()})
    sweeps = [
        weighting_sweep(read_cell_scores(options.folder, cell), betas).assign(**cell._asdict())
        for cell in unpack_cells(options.cells)
    ]
    per_seed = average_categories(sweeps)
    table = weighting_table(per_seed)
    display = weighting_display(table)
    write_table(sweep_table(per_seed), options.sweep)
    write_table(table, options.csv)
    write_text(options.md, display.markdown())
    write_text(options.tex, display.latex())


if __name__ == "__main__":
    script(main)
