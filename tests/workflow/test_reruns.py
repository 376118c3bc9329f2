"""An edit reruns exactly what depends on it; nothing that was interrupted is lost."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from aeflow.report import contents
from tests.workflow.conftest import CELL, Repository, digest

Edit = Callable[[str, str, str], None]
MODEL, SCORES = f"models/{CELL}.safetensors", f"scores/{CELL}.csv"
AFTER_SCORING = {"fuse_scores", "evaluate_scores", "make_table", "plot_figure"}
AFTER_SCORING |= {"build_browse", "build_report"}
# Two categories, two seeds.
OF_AEFLOW = {"train_model": 4, "score_images": 4}


def test_touched_files_rerun_nothing(tiny: Repository) -> None:
    for path in sorted((tiny.folder / "data/receipts").rglob("*.json")):
        os.utime(path)
    for path in sorted(tiny.results().rglob("*")):
        if path.suffix in (".csv", ".json", ".npz", ".safetensors"):
            os.utime(path)
    assert tiny.plan() == {}


def test_an_edit_of_the_study_reruns_what_depends_on_it(tiny: Repository, edit: Edit) -> None:
    edit("tiny.yaml", "steps: 2", "steps: 3")
    plan = tiny.plan()
    assert {rule: plan.pop(rule) for rule in OF_AEFLOW} == OF_AEFLOW
    assert plan.keys() == AFTER_SCORING
    # aeflow's tables, and those of the two fusions that rest on it; not gradient's.
    assert (plan["fuse_scores"], plan["evaluate_scores"]) == (2 + 4, 4 + 2 + 4)
    edit("tiny.yaml", "steps: 3", "steps: 2")

    edit("tiny.yaml", "beta: 0.5", "beta: 0.4")
    plan = tiny.plan()
    assert plan.keys() == AFTER_SCORING - {"fuse_scores"}
    assert plan["evaluate_scores"] == 4, "the tables that the variant reads"
    edit("tiny.yaml", "beta: 0.4", "beta: 0.5")

    edit("tiny.yaml", "seeds: [0, 1]", "seeds: [0, 1, 2]")
    plan = tiny.plan()
    assert (plan["train_model"], plan["score_images"]) == (2, 2)
    edit("tiny.yaml", "seeds: [0, 1, 2]", "seeds: [0, 1]")

    edit("tiny.yaml", "image_size: 64", "image_size: 96")
    plan = tiny.plan()
    assert (plan["prepare_images"], plan["extract_features"]) == (2, 2)
    assert plan["score_images"] == 4 + 2, "gradient's too"
    assert "fetch_data" not in plan
    edit("tiny.yaml", "image_size: 96", "image_size: 64")
    assert tiny.plan() == {}


def test_an_edit_of_code_reruns_its_users(tiny: Repository, edit: Edit) -> None:
    edit("aeflow/training/trainer.py", '"""', '# A comment.\n"""')
    edit("aeflow/core/errors.py", "class DataError", "SPARE = 1\n\n\nclass DataError")
    assert tiny.plan() == {}, "a sentence, and what shapes no number"
    edit("aeflow/questions/panels.py", "\nimport ", "\nimport os\nimport ")
    assert tiny.plan() == {"plot_figure": 2, "build_report": 1}, "its own figures alone"
    edit("aeflow/judging/thresholds.py", "\nimport ", "\nimport os\nimport ")
    plan = tiny.plan()
    assert plan["evaluate_scores"] == len(list(tiny.results().glob("metrics/*/*/*/*.json")))
    assert not {"train_model", "score_images"} & plan.keys()
    edit("aeflow/methods/gradient.py", "\nimport ", "\nimport os\nimport ")
    assert tiny.plan()["score_images"] == 2, "of that method, and of no other"
    edit("aeflow/models/losses.py", "\nimport math", "\nimport math\nimport os")
    plan = tiny.plan()
    assert plan["train_model"] == 4
    assert "extract_features" not in plan


def test_a_logger_is_told_and_nothing_else_runs(tiny: Repository) -> None:
    pytest.importorskip("tensorboard")
    overlay = tiny.folder / "tiny.yaml"
    overlay.write_text(overlay.read_text() + "loggers: [tensorboard]\n")
    assert tiny.plan() == {"log_runs": 1}
    tiny.snakemake()
    assert len([*tiny.results().glob(f"logged/tensorboard/{CELL}/events*")]) == 1
    assert tiny.plan() == {}


def test_what_is_absent_is_made_again_only_where_it_is_needed(
    tiny: Repository, edit: Edit
) -> None:
    for folder in ("data/prepared", "data/features", "data/weights", "data/raw"):
        shutil.rmtree(tiny.folder / folder)
    shutil.rmtree(tiny.results() / "models")
    assert tiny.plan() == {}
    edit("tiny.yaml", "bootstrap_replicates: 50", "bootstrap_replicates: 60")
    assert tiny.plan().keys() == AFTER_SCORING - {"fuse_scores"}


def test_a_tampered_checkpoint_is_found(tiny: Repository) -> None:
    model = tiny.results() / MODEL
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    target = f"results/tiny/scores/{CELL}.csv"
    done = tiny.snakemake("--force", target, check=False)
    assert done.returncode != 0
    assert "is not the file that" in done.stderr


def test_another_hash_seed_and_a_kill_change_no_byte(
    finished_tiny: Repository, tiny: Repository
) -> None:
    """SIGKILL to Snakemake and its jobs as soon as the training has left a state."""
    shutil.rmtree(tiny.results())
    shutil.rmtree(tiny.folder / "data/features")
    targets = [f"results/tiny/{MODEL}", f"results/tiny/{SCORES}"]
    process = subprocess.Popen(
        tiny.command("--cores", "1", *targets),
        cwd=tiny.folder,
        env=tiny.environment() | {"PYTHONHASHSEED": "7"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    state = tiny.results() / f"scratch/{CELL}.safetensors"
    while process.poll() is None and not state.exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert state.exists(), "the training ended before it could be killed"
    assert not (tiny.results() / MODEL).exists()
    tiny.snakemake("--unlock")
    tiny.snakemake("--cores", "1", *targets)
    log = tiny.results() / f"logs/train_model/{CELL}.log"
    assert "resuming in epoch" in log.read_text()
    assert not state.exists()
    gallery = targets[1].replace("scores/", "galleries/").replace(".csv", ".npz")
    for name in [*targets, gallery]:
        assert digest(tiny.folder / name) == digest(finished_tiny.folder / name), name


def test_the_contents_are_what_is_made(finished_tiny: Repository) -> None:
    tables = {path.stem for path in (finished_tiny.results() / "tables").glob("*.csv")}
    assert tables == set(contents.TABLES)
    figures = {re.split("-", p.stem)[0] for p in (finished_tiny.results() / "figures").glob("*")}
    assert figures == set(contents.FIGURES) - {"claims"}, "nothing is published of the demo"
