"""The workflow on a real SLURM: two nodes on this machine, each with two stand-in GPUs."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workflow.conftest import TINY, Repository, copy_repository
from tests.workflow.private_slurm import PATIENCE, OnSlurm, PrivateSlurm, wait_until
from tests.workflow.test_reruns import MODEL, SCORES, digest

# Long enough to be interrupted.
LONG = TINY.replace("study: tiny", "study: long").replace("epochs: 3", "epochs: 20")
TRAINED = f"results/long/{MODEL}"
STATE = "results/long/scratch/demo_textures/brick/aeflow/seed{}.safetensors"
LOG = "results/long/logs/train_model/demo_textures/brick/aeflow/seed0.log"
METRICS = "results/tiny/metrics/demo_textures/brick/aeflow/seed0.json"
TRAINING = "rule_train_model_wildcards_demo_textures_brick_aeflow_{}"


@pytest.fixture(scope="module")
def running_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSlurm]:
    slurm = PrivateSlurm(tmp_path_factory.mktemp("slurm"))
    slurm.start()
    yield slurm
    slurm.stop()


@pytest.fixture
def slurm(running_slurm: PrivateSlurm) -> Iterator[PrivateSlurm]:
    """Both nodes are idle, now and after the test."""
    yield running_slurm
    running_slurm.restore_nodes()


@pytest.fixture
def cluster(slurm: PrivateSlurm, finished_tiny: Repository, tmp_path: Path) -> OnSlurm:
    """A finished tiny study, and `long.yaml` to be trained on the same features."""
    shutil.copytree(finished_tiny.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "long.yaml").write_text(LONG)
    return OnSlurm(tmp_path, slurm)


@pytest.fixture(scope="module")
def undisturbed(finished_tiny: Repository, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the long training's checkpoint, trained here in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(finished_tiny.folder, folder, dirs_exist_ok=True)
    (folder / "long.yaml").write_text(LONG)
    Repository(folder).snakemake("--", TRAINED, overlay="long.yaml")
    return digest(folder / TRAINED)


def training_starts(cluster: OnSlurm, seed: int = 0) -> str:
    """Wait until a training has something to lose, and return the number of its job."""
    state = cluster.folder / STATE.format(seed)
    wait_until(state.exists, f"the training of seed {seed} has a state")
    return cluster.jobs("RUNNING")[TRAINING.format(seed)]


def finishes(cluster: OnSlurm, run: subprocess.Popen[bytes]) -> None:
    assert run.wait(PATIENCE) == 0, cluster.said()


def test_the_study_runs_from_nothing_while_a_node_is_drained(
    slurm: PrivateSlurm, tmp_path: Path, finished_tiny: Repository
) -> None:
    cluster = OnSlurm(copy_repository(tmp_path), slurm)
    run = cluster.start(overlay="tiny.yaml")
    prepared = "rule_prepare_images_wildcards_demo_textures_brick"
    wait_until(
        lambda: prepared in cluster.jobs("RUNNING", "COMPLETED"), "the first job has a node"
    )
    used = slurm.field(cluster.jobs()[prepared], "%N")
    slurm.run("scontrol", "update", f"NodeName={used}", "State=drain", "Reason=test")
    finishes(cluster, run)
    for name in (MODEL, SCORES, "metrics/demo_textures/brick/beta_half/seed0.json"):
        ours, theirs = (r.results() / name for r in (cluster, finished_tiny))
        if name.endswith(".json"):
            assert ours.is_file()
        else:
            assert digest(ours) == digest(theirs), name
    assert (cluster.results() / "report.html").is_file()
    jobs = cluster.jobs()
    assert slurm.field(jobs[TRAINING.format(0)], "%N") != used
    # Three evaluations in one job, and the light rules in none.
    assert {re.sub("_wildcards.*", "", comment) for comment in jobs} == {
        "rule_prepare_images",
        "rule_extract_features",
        "rule_measure_complexity",
        "rule_train_model",
        "rule_score_images",
        "rule_score_gradient",
        "rule_evaluation",
        "rule_analysis",
    }
    asked = {c: slurm.run("scontrol", "show", "job", job) for c, job in jobs.items()}
    assert sum("TresPerJob=gres:gpu:1" in text for text in asked.values()) == 3
    assert cluster.plan() == {}
    assert Repository(tmp_path).plan() == {}, "the same files, whoever runs it"


def cancel(slurm: PrivateSlurm, job: str) -> None:
    slurm.run("scancel", job)


def requeue(slurm: PrivateSlurm, job: str) -> None:
    slurm.run("scontrol", "requeue", job)
    slurm.start_now(job)


def preempt(slurm: PrivateSlurm, job: str) -> None:
    options = ["--partition=urgent", "--nodes=2", "--exclusive", "--parsable", "--wrap=true"]
    urgent = slurm.run("sbatch", "--output=/dev/null", *options)
    slurm.start_now(job)
    assert slurm.field(urgent, "%T") == "COMPLETED"


def lose_its_node(slurm: PrivateSlurm, job: str) -> None:
    slurm.lose_node(slurm.field(job, "%N"))
    slurm.start_now(job)


@pytest.mark.parametrize("disturb", [cancel, requeue, preempt, lose_its_node])
def test_a_disturbed_training_ends_with_the_same_bytes(
    disturb: Callable[[PrivateSlurm, str], None], cluster: OnSlurm, undisturbed: str
) -> None:
    run = cluster.start(TRAINED, overlay="long.yaml")
    disturb(cluster.slurm, training_starts(cluster))
    assert not (cluster.folder / TRAINED).exists(), "it ended before it was disturbed"
    finishes(cluster, run)
    assert "resuming in epoch" in (cluster.folder / LOG).read_text()
    assert digest(cluster.folder / TRAINED) == undisturbed


def test_a_killed_run_goes_on_after_its_jobs_were_ended(
    cluster: OnSlurm, undisturbed: str
) -> None:
    run = cluster.start(TRAINED, overlay="long.yaml")
    job = training_starts(cluster)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
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
    run = cluster.start(TRAINED, TRAINED.replace("seed0", "seed1"), overlay="long.yaml")
    jobs = [training_starts(cluster, seed) for seed in (0, 1)]
    details = [slurm.run("scontrol", "show", "job", "--details", job) for job in jobs]
    assert all("JobState=RUNNING" in text for text in details), "one after the other"
    devices = [re.search(r"GRES=gpu:1\(IDX:(\d)\)", text) for text in details]
    assert {found[1] for found in devices if found} == {"0", "1"}
    finishes(cluster, run)
    assert digest(cluster.folder / TRAINED) == undisturbed


def test_a_failed_job_says_why_where_it_was_submitted(cluster: OnSlurm) -> None:
    overlay = cluster.folder / "long.yaml"
    overlay.write_text(LONG.replace("threads: 1", "threads: 1, device: mps"))
    failed = cluster.snakemake(TRAINED, overlay="long.yaml", check=False)
    assert failed.returncode == 1
    assert "train_model.py: training.device: this machine has no mps; use auto" in failed.stderr
    assert "Traceback" in (cluster.folder / LOG).read_text()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gpu: 1\n    mem_mb: 16000", "gpu: 9\n    mem_mb: 16000", ["not available", "--gpus=9"]),
        ("# slurm_partition: gpu", "slurm_partition: nowhere", ["partition", "nowhere"]),
        ("mem_mb: 16000", "mem_mb: 900000", ["not available", "--mem 900000"]),
    ],
    ids=["gpu", "partition", "memory"],
)
def test_what_no_node_can_do_is_refused_before_anything_is_lost(
    cluster: OnSlurm, old: str, new: str, words: list[str]
) -> None:
    profile = cluster.folder / "profiles/slurm/config.yaml"
    assert old in profile.read_text()
    profile.write_text(profile.read_text().replace(old, new))
    before, jobs = digest(cluster.results() / MODEL), cluster.jobs()
    refused = cluster.snakemake("--forcerun", "train_model", check=False)
    assert refused.returncode == 1
    sentence = refused.stderr.splitlines()[-1]
    assert sentence.startswith("SLURM refuses the jobs of ")
    assert all(word in sentence for word in words), sentence
    assert "Traceback" not in refused.stderr
    assert digest(cluster.results() / MODEL) == before
    assert cluster.jobs() == jobs


def test_snakemake_asks_again_where_slurm_does_not_answer_for_a_while(
    cluster: OnSlurm, tmp_path: Path
) -> None:
    """All five attempts of the first question fail."""
    real, asked = shutil.which("squeue"), tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/squeue").write_text(
        f"""#!/bin/sh
case "$*" in *--name*)
  echo >> {asked}
  if [ $(wc -l < {asked}) -le 5 ]; then exit 1; fi
esac
exec {real} "$@"
"""
    )
    (tmp_path / "bin/squeue").chmod(0o755)

    class Unheard(OnSlurm):
        def environment(self) -> dict[str, str]:
            ours = super().environment()
            return {**ours, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{ours['PATH']}"}

    unheard = Unheard(cluster.folder, cluster.slurm)
    run = unheard.start(METRICS, "--forcerun", "evaluate_scores", overlay="tiny.yaml")
    finishes(unheard, run)
    assert len(asked.read_text()) > 5


def test_a_dead_controller_is_said(cluster: OnSlurm, tmp_path: Path) -> None:
    configuration = (cluster.slurm.folder / "slurm.conf").read_text()
    # No one listens at that port; SLURM's programs would try it for ten seconds each.
    changed = re.sub("SlurmctldPort=.*", "SlurmctldPort=1\nMessageTimeout=1", configuration)
    (tmp_path / "slurm.conf").write_text(changed)

    class Elsewhere(OnSlurm):
        def environment(self) -> dict[str, str]:
            return {**super().environment(), "SLURM_CONF": str(tmp_path / "slurm.conf")}

    unheard = Elsewhere(cluster.folder, cluster.slurm)
    refused = unheard.snakemake(TRAINED, overlay="long.yaml", check=False)
    assert refused.returncode == 1
    assert "SLURM does not answer (`scontrol ping`)" in refused.stderr.splitlines()[-1]


def test_without_slurm_the_profile_plans_and_then_says_what_is_missing(
    tmp_path: Path, clone: Repository
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    slurm = re.compile(r"s(acct|acctmgr|alloc|batch|cancel|control|info|queue|run)")
    for program in [*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()]:
        if not slurm.fullmatch(program.name) and not (programs / program.name).exists():
            (programs / program.name).symlink_to(program)

    class WithoutSlurm(OnSlurm):
        def environment(self) -> dict[str, str]:
            environment = Repository(self.folder).environment()
            venv = environment["PATH"].split(os.pathsep)[0]
            return {**environment, "PATH": f"{venv}{os.pathsep}{programs}"}

    here = WithoutSlurm(copy_repository(tmp_path / "clone"), PrivateSlurm(tmp_path))
    assert here.plan() == clone.plan()
    assert here.plan(overlay="config/config.yaml")["train_model"] > 72
    refused = here.snakemake(check=False)
    assert refused.returncode == 1
    assert "there is no sbatch" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
