"""Build the page of all test images, with their scores, maps and verdicts."""

from pathlib import Path

from aeflow.report.browse import write_browse
from aeflow.report.contents import missing_cells
from aeflow.study.job import job
from aeflow.study.study import Study


def build_browse(study: Study, browse: Path, browsed: Path, failures: Path | None = None) -> None:
    """Write the page, and beside it the folder of its pictures.

    With a list of failures: of the cells that are there, beside that list.
    """
    if failures is None:
        write_browse(study, browse, browsed)
        return
    folder = failures.parent / browse.parent.name
    page, pictures = folder / browse.name, folder / browsed.name
    write_browse(study, page, pictures, missing_cells(study, failures))


if __name__ == "__main__":
    job(build_browse)
