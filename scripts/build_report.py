"""Build the study's self-contained HTML report."""

import argparse
import json
from pathlib import Path

from aeflow.core.files import read_json, write_text
from aeflow.core.job import script
from aeflow.core.schema import validate
from aeflow.questions.claims import load_published
from aeflow.questions.results import read_main, read_results, read_training
from aeflow.report.contents import read_questions
from aeflow.report.page import build_report
from aeflow.study.cells import unpack_cells
from aeflow.study.entries import DatasetEntry


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True)
    parser.add_argument("--datasets", required=True, help="DatasetEntry of each, as JSON")
    parser.add_argument("--results", type=Path, required=True, help="results.csv")
    parser.add_argument("--main", type=Path, required=True, help="main.csv")
    parser.add_argument("--published", type=Path, required=True, help="config/published.yaml")
    parser.add_argument("--folder", type=Path, required=True, help="the study's results")
    parser.add_argument(
        "--cells", required=True, help="JSON (aeflow.study.cells): whose metrics to show"
    )
    parser.add_argument("--trained", required=True, help="the same: whose trainings to show")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="in their order")
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args(arguments)
    entries = [
        validate(DatasetEntry, entry, "--datasets") for entry in json.loads(options.datasets)
    ]
    cells = unpack_cells(options.cells)
    shown = {cell.variant for cell in cells}
    results, means = read_results(options.results), read_main(options.main)
    published = load_published(options.published)
    metrics, train = options.folder / "metrics", options.folder / "train"
    page = build_report(
        study=options.study,
        results=results[results["variant"].isin(shown)],
        main=means[means["variant"].isin(shown)],
        published=published,
        metrics=[read_json(cell.file(metrics, "json")) for cell in cells],
        trainings=[read_training(c.file(train, "json")) for c in unpack_cells(options.trained)],
        figures=options.figures,
        cards={entry.name: entry.load_card() for entry in entries},
        questions=read_questions(options.folder / "tables", published, entries),
    )
    write_text(options.report, page)


if __name__ == "__main__":
    script(main)
