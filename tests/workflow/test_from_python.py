"""The demo's results from Python: docstrings, pages of the docs, notebooks."""

import contextlib
import doctest
import re
import shutil
from pathlib import Path
from zipfile import ZipFile

import jupytext
import matplotlib as mpl
import nbclient
import numpy as np
import pytest
from matplotlib.figure import Figure

import aeflow
import aeflow.detector.detector
import aeflow.results
from aeflow.cli import main
from aeflow.core.errors import DataError
from tests.unit.data.dicom_files import dicom
from tests.workflow.conftest import ROOT, Repository, copy_repository

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.py"))


@pytest.fixture(scope="module")
def folder(demo: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished demo, with the detector that the docs pack."""
    copy = copy_repository(tmp_path_factory.mktemp("copy"))
    for name in ("data", "results/demo"):
        shutil.copytree(demo.folder / name, copy / name, dirs_exist_ok=True)
    (command,) = re.findall(r"^aeflow (pack .*)$", (ROOT / "docs/detector.md").read_text(), re.M)
    with contextlib.chdir(copy):
        assert main(command.split()) == 0
    return copy


@pytest.fixture
def packed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as working folder."""
    monkeypatch.chdir(folder)
    mpl.use("agg")
    return folder


@pytest.mark.parametrize("module", [aeflow.results, aeflow.detector.detector])
def test_the_examples_of_docstrings_are_so(packed: Path, module: object) -> None:
    done = doctest.testmod(module, optionflags=doctest.ELLIPSIS)  # type: ignore[arg-type]
    assert done.attempted > 3
    assert done.failed == 0


def test_the_code_of_the_page_runs(packed: Path) -> None:
    with ZipFile("data/raw/demo_textures.zip") as archive:
        Path("a.png").write_bytes(archive.read("demo_textures/brick/test/good/000.png"))
    Path("b.dcm").write_bytes(dicom(np.full((64, 64), 99, np.uint8)))
    code = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/detector.md").read_text(), re.M | re.S
    )
    assert len(code) > 1
    names: dict[str, object] = {}
    for block in code:
        exec(block, names)
    assert len(names["table"]) == 2


def test_a_figure_that_is_not_there_is_told(packed: Path) -> None:
    study = aeflow.load("results/demo")
    assert isinstance(study.plot("roc", "demo_textures"), Figure)
    with pytest.raises(DataError, match=r"has no figure 'rock', but .*roc"):
        study.plot("rock")
    with pytest.raises(DataError, match="'panels' is there of: demo_textures, brick, aeflow"):
        study.plot("panels", "demo_textures")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(packed: Path, notebook: Path) -> None:
    book = jupytext.read(notebook)
    place = {"metadata": {"path": str(packed / "docs/notebooks")}}
    nbclient.NotebookClient(book, timeout=300, resources=place).execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in shown)
    assert pictures == len(re.findall(r"demo\.plot|plt\.show", notebook.read_text())) > 0
