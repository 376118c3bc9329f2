"""Write the tables for people (Markdown) and papers (LaTeX), and the published comparison."""

import argparse
import json
from pathlib import Path

from aeflow.entries import DatasetEntry
from aeflow.files import write_text
from aeflow.logging import script
from aeflow.reporting.categories import categories_display, categories_table
from aeflow.reporting.choice import chosen_variants, read_choice
from aeflow.reporting.display import main_display, results_display
from aeflow.reporting.published import claims_display, claims_table, load_published
from aeflow.reporting.tables import read_main, read_results, write_table
from aeflow.validation import validate


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
    claims = claims_table(means, published, entries, chosen)
    categories = categories_table(results, options.variants)
    tables = {
        "results": results_display(results),
        "main": main_display(means[means["variant"].isin(options.variants)]),
        "claims": claims_display(claims, published),
        "categories": categories_display(categories),
    }
    for name, table in tables.items():
        write_text(options.folder / f"{name}.md", table.markdown())
        write_text(options.folder / f"{name}.tex", table.latex(long=name == "results"))
    write_table(claims, options.folder / "claims.csv")
    write_table(categories, options.folder / "categories.csv")


if __name__ == "__main__":
    script(main)
