"""A small study whose metrics, scores, trainings and tables are there; figures are blank."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from aeflow.display.figure import Caption, Drawing
from aeflow.report import contents
from aeflow.report.page import build_page
from aeflow.study.cells import path
from aeflow.study.study import Study
from tests.unit.small_results import small_study, write_results, write_tables

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the results; tests read it."""
    folder, study = tmp_path_factory.mktemp("study"), small_study()
    (folder / "config").symlink_to(ROOT / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_results(study)
        write_tables(study)
        for name, of in contents.figures(study):
            caption = Caption(of.split("+")[0], f"Figure {name} of {of}", "How to read it.")
            files = (path(study, end, {"figure": name, "of": of}) for end in ("png", "svg"))
            Drawing(Figure(figsize=(1, 1)), caption).save(*files)
    return folder


@pytest.fixture(scope="session")
def text(folder: Path) -> str:
    """The page of the study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return build_page(small_study())


@pytest.fixture
def study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(folder)
    return small_study()
