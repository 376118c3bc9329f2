"""Build the study's self-contained HTML report."""

import argparse
import json
from pathlib import Path

from aeflow.config import DatasetEntry
from aeflow.files import read_json, write_text
from aeflow.logging import script
from aeflow.reporting.html import build_report
from aeflow.reporting.published import load_published
from aeflow.reporting.tables import read_main, read_results, read_training
from aeflow.validation import validate


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
    parser.add_argument("--study", required=True)
    parser.add_argument("--datasets", required=True, help="DatasetEntry of each, as JSON")
    parser.add_argument("--results", type=Path, required=True, help="results.csv")
    parser.add_argument("--main", type=Path, required=True, help="main.csv")
    parser.add_argument("--published", type=Path, required=True, help="config/published.yaml")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--train", type=Path, nargs="*", default=[])
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="in their order")
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args(arguments)
    entries = [
        validate(DatasetEntry, entry, "--datasets") for entry in json.loads(options.datasets)
    ]
    page = build_report(
        study=options.study,
        results=read_results(options.results),
        main=read_main(options.main),
        published=load_published(options.published),
        metrics=[read_json(path) for path in options.metrics],
        trainings=[read_training(path) for path in options.train],
        figures=options.figures,
        cards={entry.name: entry.load_card() for entry in entries},
    )
    write_text(options.report, page)


if __name__ == "__main__":
    script(main)
