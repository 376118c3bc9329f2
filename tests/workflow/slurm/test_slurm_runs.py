"""The workflow on a real SLURM: two nodes on this machine, each with two stand-in GPUs."""

import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import Repository, copy_repository
from tests.workflow.slurm.private_slurm import (
    LOG,
    LONG,
    TRAINED,
    OnSlurm,
    PrivateSlurm,
    wait_until,
)
from tests.workflow.test_reruns import digest

STATE = "results/long/scratch/demo_textures/brick/aeflow/seed{}.safetensors"
TRAINING = "rule_train_model_wildcards_demo_textures_brick_aeflow_{}"


def training_starts(cluster: OnSlurm, seed: int = 0) -> str:
    """Wait until a training has something to lose and hold it there; return its job's number."""
    state = cluster.folder / STATE.format(seed)
    cluster.wait_until(state.exists, f"the training of seed {seed} has a state")
    job = cluster.jobs("RUNNING")[TRAINING.format(seed)]
    cluster.slurm.signal_tasks(job, signal.SIGSTOP)
    assert not (cluster.folder / TRAINED.replace("seed0", f"seed{seed}")).exists()
    return job


def test_the_demo_runs_from_nothing_while_a_node_is_drained(
    slurm: PrivateSlurm, tmp_path: Path, demo: Repository
) -> None:
    """With one of its two seeds."""
    cluster = OnSlurm(copy_repository(tmp_path), slurm)
    overlay = tmp_path / "config/demo.yaml"
    assert "seeds: [0, 1]" in overlay.read_text()
    overlay.write_text(overlay.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    cluster.start(overlay="config/demo.yaml")
    try:
        prepared = "rule_prepare_images_wildcards_demo_textures_brick"
        cluster.wait_until(
            lambda: prepared in cluster.jobs("RUNNING", "COMPLETED"), "the first job has a node"
        )
        used = slurm.field(cluster.jobs()[prepared], "%N")
        slurm.run("scontrol", "update", f"NodeName={used}", "State=drain", "Reason=test")
        cluster.finishes()
    finally:
        cluster.end()
    ours, theirs = cluster.results("demo"), demo.results("demo")
    same = [*theirs.glob("models/**/seed0.safetensors"), *theirs.glob("scores/**/seed0.csv")]
    assert len(same) == 6 + 8
    for path in same:
        assert digest(ours / path.relative_to(theirs)) == digest(path)
    assert (ours / "report.html").is_file()
    jobs = cluster.jobs()
    assert slurm.field(jobs[TRAINING.format(0)], "%N") != used
    # The evaluations and the analyses in one job each, and the light rules in none.
    rest = "_wildcards.*|(?<=rule_evaluation)_.*|(?<=rule_analysis)_.*"
    rules = [re.sub(rest, "", name).removeprefix("rule_") for name in jobs]
    with_gpu = {"extract_features": 2, "train_model": 6, "score_images": 6}
    assert Counter(rules) == with_gpu | {
        **{"prepare_images": 2, "measure_complexity": 2, "score_gradient": 2},
        **{"evaluation": 1, "analysis": 1},
    }
    for rule, job in zip(rules, jobs.values(), strict=True):
        asked = re.search("TresPerJob=gres[:/]gpu:1", slurm.run("scontrol", "show", "job", job))
        assert bool(asked) == (rule in with_gpu), rule
    assert cluster.plan(overlay="config/demo.yaml") == {}
    here = Repository(tmp_path)
    assert here.plan(overlay="config/demo.yaml") == {}, "the same files, whoever runs it"


def cancel(slurm: PrivateSlurm, job: str) -> None:
    slurm.run("scancel", job)


def requeue(slurm: PrivateSlurm, job: str) -> None:
    slurm.run("scontrol", "requeue", job)
    slurm.start_now(job)


def preempt(slurm: PrivateSlurm, job: str) -> None:
    options = ["--partition=urgent", "--nodes=2", "--exclusive", "--parsable", "--wrap=true"]
    urgent = slurm.run("sbatch", "--output=/dev/null", *options)
    wait_until(lambda: slurm.field(urgent, "%T") == "COMPLETED", "the urgent job has run")
    slurm.start_now(job)


def lose_its_node(slurm: PrivateSlurm, job: str) -> None:
    slurm.lose_node(slurm.field(job, "%N"))
    slurm.start_now(job)


@pytest.mark.parametrize("disturb", [cancel, requeue, preempt, lose_its_node])
def test_a_disturbed_training_ends_with_the_same_bytes(
    disturb: Callable[[PrivateSlurm, str], None], cluster: OnSlurm, undisturbed: str
) -> None:
    cluster.start(TRAINED, overlay="long.yaml")
    disturb(cluster.slurm, training_starts(cluster))
    cluster.finishes()
    assert "resuming in epoch" in (cluster.folder / LOG).read_text()
    assert digest(cluster.folder / TRAINED) == undisturbed


def test_a_killed_run_goes_on_after_its_jobs_were_ended(
    cluster: OnSlurm, undisturbed: str
) -> None:
    cluster.start(TRAINED, overlay="long.yaml")
    job = training_starts(cluster)
    cluster.end(signal.SIGKILL)
    locked = cluster.snakemake(TRAINED, overlay="long.yaml", check=False)
    assert "cannot be locked" in locked.stderr  # as for a second run beside one that lives
    cluster.snakemake("--unlock", overlay="long.yaml")
    refused = cluster.snakemake(TRAINED, overlay="long.yaml", check=False)
    assert refused.returncode == 1
    command = re.search(r"`(scancel [\d ]+)`", refused.stderr)
    assert command, refused.stderr
    assert command[1] == f"scancel {job}"
    cluster.slurm.run(*command[1].split())
    wait_until(lambda: cluster.slurm.field(job, "%T") == "CANCELLED", "the job has ended")
    cluster.snakemake(TRAINED, overlay="long.yaml")
    assert "resuming in epoch" in (cluster.folder / LOG).read_text()
    assert digest(cluster.folder / TRAINED) == undisturbed


def test_two_trainings_use_the_two_gpus_of_a_node(cluster: OnSlurm, undisturbed: str) -> None:
    slurm = cluster.slurm
    slurm.run("scontrol", "update", "NodeName=n2", "State=drain", "Reason=test")
    (cluster.folder / "long.yaml").write_text(LONG.replace("seeds: [0]", "seeds: [0, 1]"))
    cluster.start(TRAINED, TRAINED.replace("seed0", "seed1"), overlay="long.yaml")
    jobs = [training_starts(cluster, seed) for seed in (0, 1)]
    details = [slurm.run("scontrol", "show", "job", "--details", job) for job in jobs]
    assert all("JobState=RUNNING" in text for text in details), "one after the other"
    devices = [re.search(r"GRES=gpu:1\(IDX:(\d)\)", text) for text in details]
    assert {found[1] for found in devices if found} == {"0", "1"}
    for job in jobs:
        slurm.signal_tasks(job, signal.SIGCONT)
    cluster.finishes()
    assert digest(cluster.folder / TRAINED) == undisturbed


def test_a_failed_job_says_why_where_it_was_submitted(cluster: OnSlurm) -> None:
    overlay = cluster.folder / "long.yaml"
    overlay.write_text(LONG.replace("threads: 1", "threads: 1, device: mps"))
    failed = cluster.snakemake(TRAINED, overlay="long.yaml", check=False)
    assert failed.returncode == 1
    assert "train_model.py: training.device: this machine has no mps; use auto" in failed.stderr
    assert "Traceback" in (cluster.folder / LOG).read_text()
