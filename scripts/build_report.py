"""Build the study's self-contained HTML report."""

from pathlib import Path

from aeflow.core.files import write_text
from aeflow.report.page import build_page, write_incomplete
from aeflow.study.job import job
from aeflow.study.study import Study


def build_report(study: Study, report: Path, failures: Path | None = None) -> None:
    """Write the report; with a list of failures, what can be said, beside that list."""
    if failures is None:
        write_text(report, build_page(study))
    else:
        write_incomplete(study, failures)


if __name__ == "__main__":
    job(build_report)
