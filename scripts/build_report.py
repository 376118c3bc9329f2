"""Build the study's self-contained HTML report."""

from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.core.files import write_json, write_text
from aeflow.display.table import METRICS, read_table
from aeflow.report.page import build_page, write_incomplete
from aeflow.study.cells import path
from aeflow.study.job import job
from aeflow.study.study import Study


def build_report(study: Study, report: Path, headline: Path, failures: Path | None = None) -> None:
    """Write the report, and the named variants' means for `dvc metrics`, which reads no CSV.

    With a list of failures: what can be said, beside that list.
    """
    if failures is not None:
        write_incomplete(study, failures)
        return
    write_text(report, build_page(study))
    main = read_table(path(study, "csv", {"table": "main"}))
    write_json(headline, means_of(main[main["variant"].isin(study.named)]))


def means_of(main: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return {dataset: {variant: {metric: mean}}}; None where a mean is empty."""
    found: dict[str, dict[str, Any]] = {}
    for row in main.to_dict("records"):
        values = {name: row[f"{name}_mean"] for name in METRICS}
        known = {name: None if pd.isna(value) else value for name, value in values.items()}
        found.setdefault(row["dataset"], {})[row["variant"]] = known
    return found


if __name__ == "__main__":
    job(build_report)
