"""Make one table of a study: as data, for people (Markdown) and for papers (LaTeX)."""

from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.core.files import write_json
from aeflow.display.table import METRICS, write_table
from aeflow.report import contents
from aeflow.study.job import job
from aeflow.study.study import Study


def make_table(
    study: Study, table: str, csv: Path, md: Path, tex: Path, headline: Path | None = None
) -> None:
    """Write the table; the main one also as `headline`, for `dvc metrics`, which reads no CSV."""
    made = contents.maker(study)(table)
    write_table(made, contents.show(study, table, made), csv, md, tex)
    if table == "main" and headline is not None:
        write_json(headline, means_of(made))


def means_of(main: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return {dataset: {variant: {metric: mean}}}; None where a mean is empty."""
    found: dict[str, dict[str, Any]] = {}
    for row in main.to_dict("records"):
        values = {name: row[f"{name}_mean"] for name in METRICS}
        known = {name: None if pd.isna(value) else value for name, value in values.items()}
        found.setdefault(row["dataset"], {})[row["variant"]] = known
    return found


if __name__ == "__main__":
    job(make_table)
