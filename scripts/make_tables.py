"""Write the tables for people (Markdown) and papers (LaTeX), and the published comparison."""

import argparse
from pathlib import Path

from aeflow.files import write_text
from aeflow.logging import script
from aeflow.reporting.display import main_display, results_display
from aeflow.reporting.published import claims_display, claims_table, load_published
from aeflow.reporting.tables import read_main, read_results, write_table


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="results.csv")
    parser.add_argument("--main", type=Path, required=True, help="main.csv")
    parser.add_argument("--published", type=Path, required=True, help="config/published.yaml")
    parser.add_argument("--variants", nargs="+", required=True, help="those of main.md")
    parser.add_argument("--folder", type=Path, required=True, help="where the tables go")
    options = parser.parse_args(arguments)
    means = read_main(options.main)
    published = load_published(options.published)
    tables = {
        "results": results_display(read_results(options.results)),
        "main": main_display(means[means["variant"].isin(options.variants)]),
        "claims": claims_display(means, published),
    }
    for name, table in tables.items():
        write_text(options.folder / f"{name}.md", table.markdown())
        write_text(options.folder / f"{name}.tex", table.latex(long=name == "results"))
    write_table(claims_table(means, published), options.folder / "claims.csv")


if __name__ == "__main__":
    script(main)
