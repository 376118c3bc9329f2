"""Write why scores fail: complexity.*, complexity_corrected.* and defects.*."""

import argparse
import json
from pathlib import Path

from aeflow.core.files import read_json, write_text
from aeflow.core.job import script
from aeflow.questions.complexity import (
    corrected_display,
    corrected_table,
    correction_of_run,
    correlations_display,
    correlations_of_run,
    correlations_table,
)
from aeflow.questions.defects import defects_display, defects_table
from aeflow.questions.results import read_table, write_table
from aeflow.scoring.complexity import MEASURES
from aeflow.scoring.score_tables import read_cell_scores
from aeflow.study.cells import unpack_cells


def main(arguments: list[str]) -> None:
    """Read each run's metrics, scores and complexity, one run in memory at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument("--cells", required=True, help="JSON (aeflow.study.cells)")
    parser.add_argument("--trained", required=True, help="JSON: dataset: variant: trained as")
    parser.add_argument("--tables", type=Path, required=True, help="where the tables go")
    options = parser.parse_args(arguments)
    trained = json.loads(options.trained)
    runs, correlations, corrections = [], [], []
    for cell in unpack_cells(options.cells):
        metrics = read_json(cell.file(options.folder / "metrics", "json"))
        own = trained[cell.dataset][cell.variant]
        scores = read_cell_scores(options.folder, cell._replace(variant=own))
        measured = options.folder / "complexity" / cell.dataset / f"{cell.category}.csv"
        complexity = read_table(
            measured, ["image_id", *MEASURES], text=["image_id"], rule="measure_complexity"
        )
        first = own == cell.variant
        correlations.append(correlations_of_run(metrics, scores, complexity, parts=first))
        corrections.append(correction_of_run(metrics, scores, complexity))
        runs.append({key: value for key, value in metrics.items() if key != "roc"})
    tables = {
        "complexity": (correlations_table(correlations), correlations_display),
        "complexity_corrected": (corrected_table(corrections), corrected_display),
        "defects": (defects_table(runs), defects_display),
    }
    for name, (table, display) in tables.items():
        write_table(table, options.tables / f"{name}.csv")
        shown = display(table)
        write_text(options.tables / f"{name}.md", shown.markdown())
        write_text(options.tables / f"{name}.tex", shown.latex())


if __name__ == "__main__":
    script(main)
