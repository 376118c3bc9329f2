"""Judge the seeds of a variant as an ensemble: its metrics, and whether it knows when it errs."""

import argparse
import json
from itertools import groupby
from pathlib import Path
from typing import Any

from aeflow.core.errors import DataError
from aeflow.core.files import read_json, write_text
from aeflow.core.job import script
from aeflow.core.schema import validate
from aeflow.core.types import Method, Split
from aeflow.judging.certainty import ensemble_scores, evaluate_ensemble, no_ensemble
from aeflow.judging.evaluation import JudgingSettings
from aeflow.questions.certainty import ensembles_display, ensembles_table, risk_table
from aeflow.questions.results import write_table
from aeflow.scoring.score_tables import read_cell_scores
from aeflow.study.cells import Cell, unpack_cells
from aeflow.study.entries import DatasetEntry


def judge(folder: Path, trained: str, members: list[Cell]) -> dict[str, Any]:
    """Return `evaluate_ensemble` of the seeds of one variant on one category.

    Args:
        folder: the study's results.
        trained: the variant whose score tables stand for it.
        members: its cells; their metrics say how it is scored and judged.
    """
    path = members[0].file(folder / "metrics", "json")
    metrics = read_json(path)
    settings = validate(JudgingSettings, metrics["settings"], f"{path}: settings")
    tables = [read_cell_scores(folder, cell._replace(variant=trained)) for cell in members]
    try:
        ensemble = ensemble_scores(tables, Method(metrics["method"]), settings.score)
    except DataError as error:  # no scale: without validation normals, say
        n_test = int((tables[0]["split"] == Split.TEST).sum())
        return no_ensemble(len(members), n_test, str(error))
    return evaluate_ensemble(ensemble, settings.threshold)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument(
        "--cells", required=True, help="JSON (aeflow.study.cells): seeds are members"
    )
    parser.add_argument(
        "--trained", required=True, help="JSON: {dataset: {variant: whose scores it shares}}"
    )
    parser.add_argument("--datasets", required=True, help="DatasetEntry of each, as JSON")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--tex", type=Path, required=True)
    parser.add_argument("--risk", type=Path, required=True, help="risk-coverage curves, CSV")
    options = parser.parse_args(arguments)
    trained = json.loads(options.trained)
    entries = [
        validate(DatasetEntry, entry, "--datasets") for entry in json.loads(options.datasets)
    ]
    evaluated = []
    for key, members in groupby(unpack_cells(options.cells), key=lambda cell: cell[:3]):
        found = judge(options.folder, trained[key[0]][key[2]], list(members))
        evaluated.append(dict(zip(("dataset", "category", "variant"), key, strict=True)) | found)
    table = ensembles_table(evaluated)
    display = ensembles_display(table, entries)
    write_table(table, options.csv)
    write_table(risk_table(evaluated), options.risk)
    write_text(options.md, display.markdown())
    write_text(options.tex, display.latex())


if __name__ == "__main__":
    script(main)
