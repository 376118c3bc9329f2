"""Write the tables for people (Markdown) and papers (LaTeX), and the published comparison."""

import argparse
import json
from pathlib import Path

from aeflow.core.files import write_text
from aeflow.core.job import script
from aeflow.core.schema import validate
from aeflow.questions.choice import chosen_variants, read_choice
from aeflow.questions.claims import load_published
from aeflow.questions.results import read_main, read_results
from aeflow.report.texts import claims_texts, metrics_texts
from aeflow.study.entries import DatasetEntry


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="results.csv")
    parser.add_argument("--main", type=Path, required=True, help="main.csv")
    parser.add_argument("--published", type=Path, required=True, help="config/published.yaml")
    parser.add_argument("--choice", type=Path, required=True, help="choice.csv")
    parser.add_argument("--datasets", required=True, help="JSON: the study's dataset entries")
    parser.add_argument("--variants", nargs="+", required=True, help="those to show")
    parser.add_argument("--folder", type=Path, required=True, help="where the tables go")
    options = parser.parse_args(arguments)
    means = read_main(options.main)
    results = read_results(options.results)
    entries = [validate(DatasetEntry, e, "--datasets") for e in json.loads(options.datasets)]
    published = load_published(options.published)
    chosen = chosen_variants(read_choice(options.choice))
    texts = metrics_texts(results, means, options.variants)
    texts |= claims_texts(means, published, entries, chosen)
    for name, text in texts.items():
        write_text(options.folder / name, text)


if __name__ == "__main__":
    script(main)
