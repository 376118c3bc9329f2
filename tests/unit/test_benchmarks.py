"""The benchmarks run, describe themselves, and do the same work on both sides. No times here."""

import mmap
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aeflow.core.files import read_json
from aeflow.core.receipts import write_receipt
from aeflow.judging.metrics import RANKING_METRICS
from aeflow.study.cells import path
from aeflow.study.study import Study, read_study
from benchmarks import detector, evaluation, grid, measure, preparation, rehearsal, run, startup
from benchmarks.measure import compare

ROOT = Path(__file__).parents[2]
JOBS = ("train_model", "score_images", "evaluate_scores")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def sides_in_threads(monkeypatch: pytest.MonkeyPatch, torch_as_it_was: None) -> None:
    """Spare the tests the start of two processes per comparison."""

    def own_thread(build: measure.Build) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, initializer=measure._start, initargs=(build,))

    monkeypatch.setattr(measure, "own_process", own_thread)
    monkeypatch.setattr(measure, "MATRIX_SIDE", 64)


def numbers(*values: float) -> Callable[[], float]:
    """Return an action that gives one number after the other."""
    return iter(values).__next__


def returned(action: Callable[[], float]) -> float:
    return action()


def test_pairs_of_runs_are_compared_after_a_warm_up(sides_in_threads: None) -> None:
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
    assert measure.gflop(lambda: a @ b) * 1e9 == pytest.approx(forward)
    assert measure.gflop(lambda: (a @ b).sum().backward()) * 1e9 == pytest.approx(3 * forward)


def grow_and_watch() -> None:
    """Print the peak in MiB of doing nothing, of growing by 100 MiB, of a child as large."""
    size, samples, sample = 100 * 2**20, list[float](), measure._family_mib
    measure._family_mib = lambda: samples.append(sample()) or samples[-1]  # type: ignore

    def wait_for_a_sample() -> None:
        enough = len(samples) + 2  # one may be under way
        while len(samples) < enough:
            time.sleep(0.01)

    def own() -> None:
        with mmap.mmap(-1, size) as kept:
            for page in range(0, size, mmap.PAGESIZE):
                kept[page] = 1
            wait_for_a_sample()

    def child() -> None:
        code = f"kept = b'x' * {size}; print('ready', flush=True); input()"
        with subprocess.Popen([sys.executable, "-S", "-c", code], stdin=PIPE, stdout=PIPE) as run:
            assert run.stdout is not None
            run.stdout.readline()
            wait_for_a_sample()
            run.communicate(b"\n")

    print(*(measure.peak_mib(action) for action in (wait_for_a_sample, own, child)))


def test_peak_memory_includes_children_and_what_was_freed() -> None:
    """In a process of its own: this one has children of other tests, which grow and shrink."""
    code = "from tests.unit.test_benchmarks import grow_and_watch; grow_and_watch()"
    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    before, own, child = map(float, said.split())
    assert 90 < own - before < 120
    assert 90 < child - before < 130


def test_cpu_time_is_that_of_programs_that_ended() -> None:
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    assert measure.cpu_seconds(lambda: subprocess.run([sys.executable, "-c", busy])) >= 0.2
    assert measure.cpu_seconds(lambda: sum(range(1000))) == 0


def check(topic: str, file: Path, printed: str) -> list[dict[str, Any]]:
    """Check what a topic's file and the command say, and return its measurements."""
    found = read_json(file)
    assert (found["threads"], found["quick"]) == (1, True)
    assert {"python", "torch", "numpy", "FrEIA"} <= found["versions"].keys()
    for entry in found["measurements"]:
        assert entry["name"] in printed
        assert entry["value"] > 0
        alone = any(word in entry["name"] for word in ("11 variants", "40 images", "Gaussian"))
        assert (entry["reference"] is None) == alone
        if entry["reference"] is not None:
            low, high = entry["ratio_range"]
            assert 0 < low <= entry["ratio"] <= high
        counted = not any(word in entry["name"] for word in ("Gaussian", "stages 2, 3 and 4"))
        assert (entry["share_of_peak"] is not None) == (topic == "tensors" and counted)
    found_measurements: list[dict[str, Any]] = found["measurements"]
    return found_measurements


@pytest.mark.parametrize(
    ("topic", "units"),
    [
        ("tensors", {"images/s"}),
        ("preparation", {"images/s", "MiB"}),
        ("detector", {"images/s", "MiB", "s"}),
    ],
)
def test_a_topic_is_measured(
    topic: str,
    units: set[str],
    sides_in_threads: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(detector, "STAGES", [3])
    run.main(["--quick", "--only", topic, "--results", str(tmp_path)])
    found = check(topic, tmp_path / f"{topic}.json", capsys.readouterr().out)
    assert {entry["unit"] for entry in found} == units
    assert min([entry["value"] for entry in found if entry["unit"] == "MiB"], default=99) > 10


def test_the_command_works_from_any_folder(tmp_path: Path) -> None:
    """Each side in a process of its own, as a user has it."""
    command = [sys.executable, str(ROOT / "benchmarks/run.py"), "--quick", "--only", "evaluation"]
    done = subprocess.run(
        [*command, "--results", "bench"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert check("evaluation", tmp_path / "bench/evaluation.json", done.stdout)


def test_both_sides_prepare_the_same_images(tmp_path: Path) -> None:
    archive = tmp_path / "toy.zip"
    preparation.write_archive(archive, 5)
    preparation.prepare(archive, 5)()
    preparation.decode_in_a_loop(archive)()
    ours, plain = np.load(tmp_path / "ours/images.npy"), np.load(tmp_path / "plain.npy")
    assert ours.shape == (5, 256, 256, 3)
    index = pd.read_csv(tmp_path / "ours/index.csv")  # by split; the loop's in order of name
    np.testing.assert_array_equal(ours[index["source"].argsort()], plain)


def test_both_sides_extract_the_same_features(torch_as_it_was: None, tmp_path: Path) -> None:
    import torch

    from benchmarks import tensors

    torch.manual_seed(0)  # as ours does
    tensors.encode_one_by_one(tensors.TINY, tmp_path / "plain.npy")()
    tensors.extract(tensors.TINY, tmp_path / "ours.npy")()
    ours, plain = np.load(tmp_path / "ours.npy")["3"], np.load(tmp_path / "plain.npy")
    np.testing.assert_allclose(ours, plain.transpose(0, 2, 3, 1), atol=0.02)
    assert np.ptp(ours) > 1


def test_every_run_of_the_training_step_trains(torch_as_it_was: None) -> None:
    from benchmarks import tensors

    step = tensors.train(tensors.TINY)
    first, second = measure.gflop(step), measure.gflop(step)
    assert first == second > 0


def test_both_sides_find_the_same_metrics() -> None:
    table = evaluation.score_table()
    test = table[table["split"] == "test"]
    scores = 0.9 * test["density"] + 0.1 * test["ssim"]
    plain = evaluation._metrics(test["gt_label"].to_numpy(), scores.to_numpy())
    judged = evaluation.judge(table, replicates=0, variants=11)()
    assert isinstance(judged, dict)
    ours = list(judged["variants"].values())
    assert plain[:3] == pytest.approx([ours[0][name] for name in RANKING_METRICS])
    assert len({variant["image_auroc"] for variant in ours}) == 11


def test_the_jobs_of_the_start_up_do_their_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: that each works in one of its own is what every run of a study shows."""
    startup.write_study(tmp_path)
    monkeypatch.setattr(startup, "run_python", lambda _, words: lambda: words)
    jobs = [startup.run_job(tmp_path, job)() for job in startup.JOBS]
    code = f"""
import runpy, sys
for sys.argv in {jobs}:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    study = read_study(Path("results/tiny/study.json"))
    results = pd.read_csv(path(study, "csv", {"table": "results"}))
    assert list(results["variant"]) == ["aeflow", "gradient"]
    assert results["aupro"].notna().tolist() == [True, False]
    figure = {"figure": "training", "of": "demo_textures+brick+aeflow"}
    assert all(path(study, name, figure).is_file() for name in ("svg", "png"))


def test_start_up_is_compared_with_an_import_of_torch(
    sides_in_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(startup, "run_python", lambda _, words: lambda: ran.append(words))
    monkeypatch.setattr(startup, "cpu_seconds", lambda action: action() or float(len(ran)))
    found = startup.measure(quick=True)
    assert len(found) == len(startup.JOBS)
    assert ran.count(["-c", "import torch"]) == 2 * len(
        found
    )  # a warm-up, and the one that counts
    scripts = [Path(words[0]) for words in ran if words[0] != "-c"]
    assert all(script.is_file() for script in scripts)


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
                {"name": "stage", "of": "aeflow", "key": "encoder.stages", "values": [2, 3]},
                {"name": "beta", "of": "aeflow", "key": "score.beta", "values": [0.1, 0.9]},
            ],
            "seeds": [0, 1, 2],
        }
    )
    cells = grid.trained_alone(study, "chest_xray")
    assert len(cells) == 7 * 3
    # aeflow (with scaled, 8 steps and stage 3), flow, 4 steps, stage 2; stages 2 and 3.
    assert grid.shared(study, cells) == (4 * 3, 2)


def test_the_grid_is_measured(tmp_path: Path) -> None:
    """The dry run is a real one, of a small grid."""
    run.main(["--quick", "--only", "grid", "--results", str(tmp_path)])
    trainings, extractions, dry = read_json(tmp_path / "grid.json")["measurements"]
    assert trainings["ratio"] == trainings["reference"] / trainings["value"] > 1
    assert extractions["ratio"] > trainings["ratio"]
    # Of aeflow and 2 values: training, score and metrics of 2 categories and 10 seeds, and more.
    assert int(dry["name"].split()[3]) > 3 * 3 * 2 * 10


def test_the_rehearsal_multiplies_what_an_image_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BTAD's 02, in one epoch, for all of it and as often for 03, in two."""
    btad = {"name": "btad", "categories": ["02"]}
    given = {"seeds": [0], "variants": [{"name": "flow", "method": "flow"}], "ablations": []}
    alone = {"study": "small", "datasets": [btad], "training": {"epochs": 1}}
    rehearsed = Study.model_validate(given | alone)
    both = [btad | {"categories": ["02", "03"]}]
    noise = {"name": "noise", "of": "flow", "key": "flow.noise", "values": [0.1]}
    more = {"seeds": [0, 1], "ablations": [noise], "datasets": both, "training": {"epochs": 2}}
    whole = Study.model_validate(given | more)
    seconds = {"train_model": 4.0, "extract_features": 1.0}
    monkeypatch.chdir(tmp_path)
    for place in (
        *("results/benchmarks/prepare_images/btad/02", "results/benchmarks/prepare_masks/btad/02"),
        "results/benchmarks/extract_features/wide_resnet50_2-stage3/btad/02",
        *(f"results/small/benchmarks/{step}/btad/02/flow/seed0" for step in JOBS),
    ):
        file = Path(f"{place}.tsv")
        file.parent.mkdir(parents=True, exist_ok=True)
        cost = next((t for step, t in seconds.items() if step in place), 0.5)
        file.write_text(f"s\tmax_rss\tcpu_time\n8\t300\t{cost}\n")
    # Half of the training's 4 s are its start.
    trained = Path("results/small/train/btad/02/flow/seed0.json")
    write_receipt(trained, settings={}, facts={"fit_seconds": 4}, made={}, origin={})
    Path("profiles").symlink_to(ROOT / "profiles")
    Path("config").symlink_to(ROOT / "config")
    told = rehearsal.costs(whole, rehearsal.measured(rehearsed))
    rows = {
        cells[0]: cells[1:]
        for line in told.split("\n\n")[1].splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    # An image of the 629 of 02 took 2 s / 629 an epoch, and 2 s a start; 03 has 1,441 more, in
    # two epochs each, with two seeds and two values.
    assert rows["train_model"][:3] == ["8", "300", "16000"]
    assert float(rows["train_model"][3]) == pytest.approx((2 + 4 * 1441 / 629) / 60, rel=0.01)
    assert float(rows["train_model"][5]) == pytest.approx((16 + 16 * 2070 / 629) / 3600, rel=0.01)
    assert rows["extract_features"][0] == "2"
    assert float(rows["extract_features"][5]) == pytest.approx(2070 / 629 / 3600, rel=0.01)
    assert "not counted: none." in told
