"""What a study would cost, by one that ran."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import growth
from tests.workflow.conftest import Repository


def test_it_counts_the_jobs_of_a_plan(clone: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in clone.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(growth, "ROOT", clone.folder)
    assert growth.planned_jobs(Path("tiny.yaml")) == clone.plan()


def test_times_and_sizes_are_means_of_the_measured_jobs(finished_tiny: Repository) -> None:
    measured = growth.measured_jobs(finished_tiny.results())
    evaluations = [
        pd.read_csv(path, sep="\t")["cpu_time"][0]
        for path in (finished_tiny.results() / "benchmarks/evaluate_scores").rglob("*.tsv")
    ]
    assert len(evaluations) == 3
    assert measured.loc["evaluate_scores", "seconds"] == pytest.approx(sum(evaluations) / 3)
    model = finished_tiny.results() / "models/demo_textures/brick/aeflow/seed0.safetensors"
    assert measured.loc["train_model", "bytes"] == model.stat().st_size
    assert measured.loc["fetch_data", "seconds"] > 0


def test_what_runs_where_is_read_from_the_workflow() -> None:
    assert growth.gpu_rules() == {"extract_features", "train_model", "score_images", "fit_peer"}
    assert {"all", "fetch_data", "build_report"} <= growth.local_rules()
    assert not growth.gpu_rules() & growth.local_rules()


def test_what_cannot_be_planned_or_was_not_measured_is_said(
    clone: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"has no times of trainings: run that study first"):
        growth.measured_jobs(tmp_path / "results/none")
    for name, value in clone.environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "wrong.yaml").write_text("flow: {stpes: 1}")
    with pytest.raises(SystemExit, match="stpes"):
        growth.planned_jobs(tmp_path / "wrong.yaml")
