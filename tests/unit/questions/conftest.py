"""A small study whose results lie in files, for what a table in memory cannot show."""

from pathlib import Path

import pytest

from aeflow.study.study import Study
from tests.unit.report.conftest import ROOT
from tests.unit.small_results import small_study, write_results


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    study = small_study(datasets=[{"name": "chest_xray"}])
    write_results(study)
    return study
