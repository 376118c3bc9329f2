"""Build the study's self-contained HTML report."""

from pathlib import Path

from aeflow.core.files import write_text
from aeflow.report.headline import write_headline
from aeflow.report.page import build_page, write_incomplete
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
    write_headline(study, headline)


if __name__ == "__main__":
    job(build_report)
