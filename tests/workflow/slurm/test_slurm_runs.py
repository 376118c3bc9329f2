"""The workflow on a real SLURM: two nodes on this machine, each with two stand-in GPUs."""

import re
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from tests.workflow.conftest import Repository, digest
from tests.workflow.slurm.private_slurm import (
    LOG,
    LONG,
    TRAINED,
    OnSlurm,
    PrivateSlurm,
    wait_until,
)

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


def cancel(slurm: PrivateSlurm, job: str) -> None:
    slurm.run("scancel", job)


def requeue(slurm: PrivateSlurm, job: str) -> None:
    slurm.run("scontrol", "requeue", job)
    slurm.start_now(job)


def lose_its_node(slurm: PrivateSlurm, job: str) -> None:
    slurm.lose_node(slurm.field(job, "%N"))
    slurm.start_now(job)


@pytest.mark.parametrize("disturb", [cancel, lose_its_node])
def test_a_disturbed_training_ends_with_the_same_bytes(
    disturb: Callable[[PrivateSlurm, str], None], cluster: OnSlurm, undisturbed: str
) -> None:
    cluster.start(TRAINED, overlay="long.yaml")
    disturb(cluster.slurm, training_starts(cluster))
    cluster.finishes()
    assert "resuming in epoch" in (cluster.folder / LOG).read_text()
    assert digest(cluster.folder / TRAINED) == undisturbed


def test_a_study_whose_training_is_requeued(cluster: OnSlurm, undisturbed: str) -> None:
    """From the prepared images to the report."""
    cluster.start(overlay="long.yaml")
    requeue(cluster.slurm, training_starts(cluster))
    cluster.finishes()
    assert "resuming in epoch" in (cluster.folder / LOG).read_text()
    assert digest(cluster.folder / TRAINED) == undisturbed
    assert (cluster.results("long") / "report.html").is_file()
    jobs = cluster.jobs()
    rules = Counter(re.sub("^rule_|_wildcards.*", "", name) for name in jobs)
    assert rules == {"train_model": 1, "score_images": 2}, "the light rules run here"
    for name, job in jobs.items():
        asked = re.search(
            "TresPerJob=gres[:/]gpu:1", cluster.slurm.run("scontrol", "show", "job", job)
        )
        assert asked, name
    assert cluster.plan(overlay="long.yaml") == {}
    here = Repository(cluster.folder)
    assert here.plan(overlay="long.yaml") == {}, "the same files, whoever runs it"


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
