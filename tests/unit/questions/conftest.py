"""A small study whose results lie in files, for what a table in memory cannot show."""

import shutil
from pathlib import Path

import pytest

from aeflow.study.study import Study
from tests.unit.report.conftest import ROOT
from tests.unit.small_results import small_study, write_results


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small study. Not to be changed."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("config").symlink_to(ROOT / "config")
        write_results(small_study(datasets=[{"name": "chest_xray"}]))
    return folder


@pytest.fixture
def small(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    shutil.copytree(written, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return small_study(datasets=[{"name": "chest_xray"}])
