"""An edit reruns exactly what depends on it; nothing that was interrupted is lost."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.workflow.conftest import Repository

Edit = Callable[[str, str, str], None]
AFTER_EVALUATION = {
    "aggregate_metrics": 1,
    "collect_ablations": 1,
    "choose_setting": 1,
    "explain_scores": 1,
    "plot_variants": 1,
    "plot_complexity": 1,
    "plot_defects": 1,
    "make_tables": 1,
    "plot_roc": 1,
    "plot_scores": 1,
    "plot_panels": 1,
    "build_report": 1,
}
FROM_SCORES = {"compare_variants": 1, "sweep_weighting": 1, "plot_weighting": 1}
AFTER_SCORING = {**AFTER_EVALUATION, **FROM_SCORES, "evaluate_scores": 2}
AFTER_TRAINING = {**AFTER_SCORING, "train_model": 1, "score_images": 1, "plot_training": 1}
MODEL = "models/demo_textures/brick/aeflow/seed0.safetensors"
SCORES = "scores/demo_textures/brick/aeflow/seed0.csv"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_nothing_is_planned_for_a_finished_study(finished_tiny: Repository) -> None:
    assert finished_tiny.plan() == {}


def test_variants_that_share_a_training_are_trained_once(finished_tiny: Repository) -> None:
    assert (finished_tiny.results() / MODEL).is_file()
    assert not (finished_tiny.results() / "models/demo_textures/brick/beta_half").exists()
    assert (finished_tiny.results() / "metrics/demo_textures/brick/beta_half/seed0.json").is_file()


def test_touched_files_rerun_nothing(tiny: Repository) -> None:
    for path in sorted((tiny.folder / "data/manifests").rglob("*.json")):
        os.utime(path)
    for path in sorted(tiny.results().rglob("*")):
        if path.suffix in (".csv", ".json"):
            os.utime(path)
    assert tiny.plan() == {}


def test_the_flows_depth_reruns_training_and_below(tiny: Repository, edit: Edit) -> None:
    edit("tiny.yaml", "steps: 2", "steps: 3")
    assert tiny.plan() == AFTER_TRAINING


def test_the_scores_weight_of_one_variant_reruns_its_evaluation(
    tiny: Repository, edit: Edit
) -> None:
    edit("tiny.yaml", "beta: 0.5", "beta: 0.4")
    plan = {"evaluate_scores": 1, "compare_variants": 1, **AFTER_EVALUATION}
    del plan["plot_scores"], plan["plot_panels"]  # they show the variant that was trained
    assert tiny.plan() == plan


def test_the_image_size_reruns_preparation_and_below(tiny: Repository, edit: Edit) -> None:
    edit("tiny.yaml", "image_size: 64", "image_size: 96")
    assert tiny.plan() == {
        **AFTER_TRAINING,
        "prepare_images": 1,
        "extract_features": 1,
        "measure_complexity": 1,
        "score_gradient": 1,
        "evaluate_scores": 3,
    }


def test_a_new_seed_trains_that_seed_alone(tiny: Repository, edit: Edit) -> None:
    edit("tiny.yaml", "seeds: [0]", "seeds: [0, 1]")
    plan = tiny.plan()
    assert (plan["train_model"], plan["score_images"], plan["evaluate_scores"]) == (1, 1, 2)
    assert "score_gradient" not in plan


def test_an_edited_sentence_reruns_nothing(tiny: Repository, edit: Edit) -> None:
    edit("aeflow/training/trainer.py", '"""Training:', '# A comment.\n"""Training, that is:')
    edit("aeflow/core/errors.py", "class DataError", "SPARE = 1\n\n\nclass DataError")
    assert tiny.plan() == {}
    edit("config/datasets/demo_textures.yaml", "title:", "homepage: null\ntitle:")
    # Claims stand beside the card's split, the report shows the rest.
    assert tiny.plan() == {"make_tables": 1, "build_report": 1}


def test_edited_code_reruns_its_users(tiny: Repository, edit: Edit) -> None:
    edit("aeflow/judging/thresholds.py", "\nimport ", "\nimport os\nimport ")
    plan = tiny.plan()
    assert plan.pop("evaluate_scores") == 3
    assert "train_model" not in plan
    edit("aeflow/models/losses.py", "\nimport math", "\nimport math\nimport os")
    assert tiny.plan()["train_model"] == 1
    assert "extract_features" not in tiny.plan()


def test_an_evaluation_that_changed_needs_no_training(tiny: Repository, edit: Edit) -> None:
    shutil.rmtree(tiny.folder / "data/prepared")
    shutil.rmtree(tiny.folder / "data/features")
    shutil.rmtree(tiny.results() / "models")
    edit("tiny.yaml", "bootstrap_replicates: 50", "bootstrap_replicates: 60")
    assert tiny.plan() == {**AFTER_EVALUATION, "evaluate_scores": 3}


def test_a_score_table_that_was_deleted_is_made_again(tiny: Repository) -> None:
    (tiny.results() / SCORES).unlink()
    assert tiny.plan() == {**AFTER_SCORING, "score_images": 1}


def test_a_failed_job_is_not_forgotten(tiny: Repository, edit: Edit) -> None:
    edit("tiny.yaml", "threads: 1", "threads: 1, device: mps")
    failed = tiny.snakemake(check=False)
    assert failed.returncode != 0
    sentences = [line for line in failed.stderr.splitlines() if line.startswith("train_model.py:")]
    assert len(sentences) == 1
    assert "this machine has no mps; use auto" in sentences[0]
    log = tiny.results() / "logs/train_model/demo_textures/brick/aeflow/seed0.log"
    assert "Traceback" in log.read_text()
    assert tiny.plan()["train_model"] == 1


def test_the_number_of_workers_changes_no_byte(
    finished_tiny: Repository, tiny: Repository
) -> None:
    tiny.snakemake("--cores", "1", "--forceall")
    for name in (MODEL, SCORES):
        assert digest(tiny.results() / name) == digest(finished_tiny.results() / name), name
    prepared = "data/prepared/demo_textures/brick"
    for name in ("images.npy", "masks.npy", "index.csv"):
        ours, theirs = (r.folder / prepared / name for r in (tiny, finished_tiny))
        assert digest(ours) == digest(theirs), name


def test_killed_while_training_it_continues_to_the_same_bytes(
    finished_tiny: Repository, tiny: Repository
) -> None:
    """SIGKILL to Snakemake and its jobs as soon as the training has left a state."""
    shutil.rmtree(tiny.results())
    process = subprocess.Popen(
        tiny.command(),
        cwd=tiny.folder,
        env=tiny.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    state = tiny.results() / "scratch/demo_textures/brick/aeflow/seed0.safetensors"
    while process.poll() is None and not state.exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert state.exists(), "the training ended before it could be killed"
    assert not (tiny.results() / MODEL).exists()
    tiny.snakemake("--unlock")
    tiny.snakemake("--rerun-incomplete")
    log = tiny.results() / "logs/train_model/demo_textures/brick/aeflow/seed0.log"
    assert "resuming in epoch" in log.read_text()
    assert not state.exists()
    for name in (MODEL, SCORES):
        assert digest(tiny.results() / name) == digest(finished_tiny.results() / name), name
    assert tiny.plan() == {}
