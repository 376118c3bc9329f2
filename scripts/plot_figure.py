"""Draw one figure of a study."""

from pathlib import Path

from aeflow.report import contents
from aeflow.study.job import job
from aeflow.study.study import Study


def plot_figure(study: Study, figure: str, of: str, svg: Path, png: Path, pdf: Path) -> None:
    """Write the figure for `of`: a dataset, or dataset, category and variant joined by +."""
    contents.draw(study, figure, of).save(svg, png, pdf)


if __name__ == "__main__":
    job(plot_figure)
