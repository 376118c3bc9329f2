"""Write tables and a report of an incomplete study (aeflow.report.failures).

stdin: JSON {"steps": [{rule, of, log}], "cells": [identity of a missing cell | {steps: numbers}]}.
"""

import argparse
import json
import sys
from pathlib import Path

from aeflow.core.files import read_json, write_text
from aeflow.core.job import script
from aeflow.core.schema import validate
from aeflow.display.table import main_display
from aeflow.questions.claims import load_published
from aeflow.questions.results import RUN, main_table, read_training, write_table
from aeflow.report.failures import describe, failed_results, failed_tables
from aeflow.report.page import build_report
from aeflow.study.cells import Cell, unpack_cells
from aeflow.study.entries import DatasetEntry


def main(arguments: list[str]) -> None:
    """Read what is there and what failed, write what can be said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True)
    parser.add_argument("--datasets", required=True, help="DatasetEntry of each, as JSON")
    parser.add_argument("--published", type=Path, required=True, help="config/published.yaml")
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument(
        "--cells", required=True, help="JSON (aeflow.study.cells): all of the study"
    )
    parser.add_argument("--trained", required=True, help="the same: whose trainings to show")
    parser.add_argument("--variants", nargs="+", required=True, help="those of the report")
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and report")
    options = parser.parse_args(arguments)

    steps, missing = describe(json.load(sys.stdin))
    absent = {Cell(*(run[key] for key in RUN)): run for run in missing}
    cells = unpack_cells(options.cells)
    folder = options.folder / "metrics"
    runs = [absent.get(cell) or read_json(cell.file(folder, "json")) for cell in cells]
    results = failed_results(runs)
    means = main_table(results)
    write_table(results, options.out / "results.csv")
    write_table(means, options.out / "main.csv")

    results = results[results["variant"].isin(options.variants)]
    means = means[means["variant"].isin(options.variants)]
    write_text(options.out / "main.md", main_display(means).markdown())
    # A mean over the seeds that are left would be a mean of something else.
    partial = {(cell.dataset, cell.variant) for cell in absent}
    whole = [run for run in runs if (run["dataset"], run["variant"]) not in partial]
    entries = [
        validate(DatasetEntry, entry, "--datasets") for entry in json.loads(options.datasets)
    ]
    page = build_report(
        study=options.study,
        results=results,
        main=means,
        published=load_published(options.published),
        metrics=[run for run in whole if run["variant"] in options.variants],
        trainings=[
            read_training(cell.file(options.folder / "train", "json"))
            for cell in unpack_cells(options.trained)
            if cell not in absent
        ],
        figures=[],
        cards={entry.name: entry.load_card() for entry in entries},
        failed=failed_tables(steps, missing),
    )
    report = options.out / "report.html"
    write_text(report, page)
    print(
        f"Cells without a result: {len(missing)} of {len(cells)}; jobs that failed: {len(steps)}. "
        f"What there is, and why: {report}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    script(main)
