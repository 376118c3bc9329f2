"""The benchmarks run, describe themselves, and do the same work on both sides. No times here."""

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from aeflow.core.files import read_json
from aeflow.core.types import Method
from aeflow.judging.evaluation import RANKING_METRICS, evaluate_scores
from aeflow.study.settings import EvaluationSettings, ScoreSettings, ThresholdSettings
from aeflow.study.study import Study
from benchmarks import comparison, evaluation, grid, preparation, quantities, run
from benchmarks.comparison import compare

ROOT = Path(__file__).parents[2]
ARITHMETIC = ("features", "training", "scoring")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def sides_in_threads(monkeypatch: pytest.MonkeyPatch, torch_as_it_was: None) -> None:
    """Spare the tests the start of two processes per comparison."""

    def own_thread(build: comparison.Build) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, initializer=comparison._start, initargs=(build,))

    monkeypatch.setattr(comparison, "own_process", own_thread)
    monkeypatch.setattr(quantities, "MATRIX_SIDE", 64)


def numbers(*values: float) -> Callable[[], float]:
    """Return an action that gives one number after the other."""
    return iter(values).__next__


def returned(action: Callable[[], float]) -> float:
    return action()


def test_pairs_of_runs_are_compared_after_a_warm_up() -> None:
    found = compare(
        "name",
        partial(numbers, 100.0, 2.0, 4.0, 5.0),
        partial(numbers, 0.0, 30.0, 20.0, 40.0),
        repeats=3,
        images=12,
        quantity=returned,
    )
    assert (found.value, found.reference) == (12 / 4, 12 / 30)
    assert (found.ratio, found.ratio_range) == (8, (5, 15))
    assert found.share_of_peak is None


def test_without_a_reference_there_is_no_ratio(sides_in_threads: None) -> None:
    found = compare("name", partial(numbers, 9.0, 2.0), repeats=1, quantity=returned)
    assert (found.value, found.reference, found.ratio) == (2, None, None)


def test_arithmetic_counts_forward_and_backward() -> None:
    import torch

    a, b = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5, requires_grad=True)
    forward = 2 * 3 * 4 * 5
    assert quantities.gflop(lambda: a @ b) * 1e9 == pytest.approx(forward)
    assert quantities.gflop(lambda: (a @ b).sum().backward()) * 1e9 == pytest.approx(3 * forward)


def test_peak_memory_includes_children_and_what_was_freed() -> None:
    size = 100 * 2**20
    child = f"import time; kept = b'x' * {size}; time.sleep(0.2)"

    def own() -> None:
        # Not from the heap: what an earlier test freed there may still count as ours.
        with mmap.mmap(-1, size) as kept:
            for page in range(0, size, mmap.PAGESIZE):
                kept[page] = 1
            time.sleep(0.2)

    before = quantities.peak_mib(lambda: None)
    assert 90 < quantities.peak_mib(own) - before < 120
    started = [sys.executable, "-S", "-c", child]
    assert 90 < quantities.peak_mib(lambda: subprocess.run(started, check=True)) - before < 130


def test_a_child_counts_when_it_runs_a_program_of_its_own() -> None:
    """Before that it borrows the memory of the process that starts it."""
    forked = os.fork()
    if forked == 0:
        signal.pause()
    with subprocess.Popen(["sleep", "60"]) as started:
        found = [path.name for path in quantities._family(Path(f"/proc/{os.getpid()}"))]
        started.kill()
    os.kill(forked, signal.SIGKILL)
    os.waitpid(forked, 0)
    assert {str(os.getpid()), str(started.pid)} <= set(found)  # and helpers of earlier tests
    assert str(forked) not in found


@pytest.mark.parametrize("topic", [*ARITHMETIC, "evaluation"])
def test_a_topic_is_measured(
    topic: str,
    sides_in_threads: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(evaluation, "import_anew", lambda _: lambda: None)
    run.main(["--quick", "--only", topic, "--results", str(tmp_path)])
    found = read_json(tmp_path / f"{topic}.json")
    assert found["threads"] == 1
    assert found["quick"] is True
    assert {"python", "torch", "numpy", "FrEIA"} <= found["versions"].keys()
    printed = capsys.readouterr().out
    for entry in found["measurements"]:
        assert entry["name"] in printed
        assert entry["value"] > 0
        assert (entry["reference"] is None) == ("values of beta" in entry["name"])
        if entry["reference"] is not None:
            low, high = entry["ratio_range"]
            assert 0 < low <= entry["ratio"] <= high
        assert (entry["share_of_peak"] is not None) == (topic in ARITHMETIC)


def test_the_command_works_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/run.py"), "--quick", "--only", "preparation"]
    done = subprocess.run(
        [*command, "--results", "bench"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    speed, memory, most = read_json(tmp_path / "bench/preparation.json")["measurements"]
    assert [entry["unit"] for entry in (speed, memory, most)] == ["images/s", "MiB", "MiB"]
    assert memory["value"] > 10
    assert "preparation, peak memory" in done.stdout


def test_both_sides_prepare_the_same_images(tmp_path: Path) -> None:
    archive = tmp_path / "toy.zip"
    preparation.write_archive(archive, 5)
    preparation.prepare(archive, 5)()
    preparation.decode_in_a_loop(archive)()
    ours, plain = np.load(tmp_path / "ours/images.npy"), np.load(tmp_path / "plain.npy")
    assert ours.shape == (5, 256, 256, 3)
    np.testing.assert_array_equal(ours, plain)


def test_both_sides_extract_the_same_features(torch_as_it_was: None, tmp_path: Path) -> None:
    import torch

    from benchmarks import features, scales

    scale = scales.scales(quick=True)[0]
    torch.manual_seed(0)  # as ours does
    features.encode_one_by_one(scale, tmp_path / "plain.npy")()
    features.extract(scale, tmp_path / "ours.npy")()
    ours, plain = np.load(tmp_path / "ours.npy"), np.load(tmp_path / "plain.npy")
    np.testing.assert_allclose(ours, plain.transpose(0, 2, 3, 1), atol=0.02)
    assert np.ptp(ours) > 1


def test_every_run_of_the_training_step_trains(torch_as_it_was: None) -> None:
    from benchmarks import scales, training

    step = training.train_on_features(scales.scales(quick=True)[0])
    first, second = quantities.gflop(step), quantities.gflop(step)
    assert first == second > 0


def test_evaluation_does_not_import_torch() -> None:
    evaluation.import_anew(evaluation.IMPORT)()


def test_both_sides_find_the_same_metrics() -> None:
    table = evaluation.score_table()
    test = table[table["split"] == "test"]
    scores = 0.9 * test["density"] + 0.1 * test["ssim"]
    plain = evaluation._metrics(test["gt_label"].to_numpy(), scores.to_numpy())
    ours = evaluate_scores(
        table,
        {},
        method=Method.AEFLOW,
        score=ScoreSettings(),
        threshold=ThresholdSettings(),
        evaluation=EvaluationSettings(bootstrap_replicates=0),
    )
    assert plain[:3] == pytest.approx([ours[name] for name in RANKING_METRICS])


def test_the_grid_counts_what_variants_share() -> None:
    study = Study.model_validate(
        {
            "datasets": [{"name": "chest_xray"}],
            "variants": [
                {"name": "aeflow"},
                {"name": "scaled", "settings": {"score": {"scaling": "standardised"}}},
                {"name": "flow", "method": "flow"},
                {"name": "gradient", "method": "gradient"},
            ],
            "ablations": [
                {"name": "depth", "of": "aeflow", "key": "flow.steps", "values": [4, 8]},
                {"name": "stage", "of": "aeflow", "key": "encoder.stage", "values": [2, 3]},
            ],
            "seeds": [0, 1, 2],
        }
    )
    # aeflow (with scaled, 8 steps and stage 3), flow, 4 steps, stage 2; stages 2 and 3.
    assert grid.planned(study, "chest_xray") == grid.Work(extractions=2, trainings=4 * 3)
    assert grid.cell_by_cell(study, "chest_xray") == grid.Work(7 * 3, 7 * 3)


def test_the_grids_images_and_cost_follow_from_the_card() -> None:
    found = grid.images("chest_xray", "all", Study().data)
    # 1,349 normals of which 15 % validate, 400 anomalous ones of validation, 624 of the test.
    assert found == {"train_model": 1147, "extract_features": 2373, "score_images": 202 + 1024}
    each = {"extract_features": 5.0, "train_model": 100.0, "score_images": 10.0}
    assert grid.cost(grid.Work(2, 3), each) == 2 * 5 + 3 * 110


def test_the_grid_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dry run is a real one, of a small grid."""
    monkeypatch.setattr(grid, "one_job_of_each", lambda *_, **__: dict.fromkeys(grid.RULES, 1.0))
    run.main(["--quick", "--only", "grid", "--results", str(tmp_path)])
    trainings, extractions, computed, dry = read_json(tmp_path / "grid.json")["measurements"]
    assert trainings["ratio"] == trainings["reference"] / trainings["value"] > 1
    assert extractions["ratio"] > trainings["ratio"] > 1
    assert trainings["ratio"] < computed["ratio"] < extractions["ratio"]
    # Of aeflow and 2 values: training, score and metrics of 2 categories and 10 seeds, and more.
    assert int(dry["name"].split()[3]) > 3 * 3 * 2 * 10
    assert "computed from one job of each kind" in capsys.readouterr().out
