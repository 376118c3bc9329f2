"""Make one table of a study: as data, for people (Markdown) and for papers (LaTeX)."""

from pathlib import Path

from aeflow.report import contents
from aeflow.study.job import job
from aeflow.study.study import Study


def make_table(study: Study, table: str, csv: Path, md: Path, tex: Path) -> None:
    """Write the table."""
    from aeflow.display.table import write_table

    made = contents.maker(study)(table)
    write_table(made, contents.show(study, table, made), csv, md, tex)


if __name__ == "__main__":
    job(make_table)
