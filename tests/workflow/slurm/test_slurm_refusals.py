"""What SLURM refuses or does not answer: a sentence, and nothing is lost."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.workflow.conftest import CELL, Repository, copy_repository, digest
from tests.workflow.slurm.private_slurm import (
    LONG,
    TRAINED,
    OnSlurm,
    PrivateSlurm,
    Shadowed,
    wait_until,
)

MODEL = f"models/{CELL}.safetensors"
SCORES = "results/tiny/scores/demo_textures/brick/gradient/seed0.csv"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gpu: 1\n    mem_mb: 16000", "gpu: 9\n    mem_mb: 16000", ["not available", "--gpus=9"]),
        ("# slurm_partition: gpu", "slurm_partition: nowhere", ["partition", "nowhere"]),
        ("mem_mb: 16000", "mem_mb: 900000", ["not available", "--mem 900000"]),
        ("runtime: 240", "runtime: 3000", ["limit is 1440 minutes", "-t 3000"]),
    ],
    ids=["gpu", "partition", "memory", "time"],
)
def test_what_no_node_can_do_is_refused_before_anything_is_lost(
    cluster: OnSlurm, old: str, new: str, words: list[str]
) -> None:
    profile = cluster.folder / "profiles/slurm/config.yaml"
    assert old in profile.read_text()
    profile.write_text(profile.read_text().replace(old, new))
    before = digest(cluster.results() / MODEL)
    refused = cluster.snakemake("--forcerun", "train_model", check=False)
    assert refused.returncode == 1
    sentence = refused.stderr.splitlines()[-1]
    assert sentence.startswith("SLURM refuses the jobs of ")
    assert all(word in sentence for word in words), sentence
    assert "Traceback" not in refused.stderr
    assert digest(cluster.results() / MODEL) == before
    assert cluster.jobs("PENDING", "RUNNING", "COMPLETED") == {}


def test_snakemake_asks_again_where_slurm_does_not_answer_for_a_while(
    cluster: OnSlurm, tmp_path: Path
) -> None:
    """The only attempt of the first question fails."""
    real, asked = shutil.which("squeue"), tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/squeue").write_text(
        f"""#!/bin/sh
case "$*" in *--name*)
  echo >> {asked}
  if [ $(wc -l < {asked}) -le 1 ]; then exit 1; fi
esac
exec {real} "$@"
"""
    )
    (tmp_path / "bin/squeue").chmod(0o755)

    unheard = Shadowed(cluster.folder, cluster.slurm, tmp_path / "bin")
    once = ["--slurm-status-attempts", "1"]
    unheard.start(SCORES, "--force", *once, overlay="tiny.yaml")
    unheard.finishes()
    assert len(asked.read_text()) > 1


def test_a_full_queue_is_waited_for(cluster: OnSlurm, tmp_path: Path) -> None:
    """Twice there is no place for the job."""
    real, asked = shutil.which("sbatch"), tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sbatch").write_text(
        f"""#!/bin/sh
case "$*" in *--test-only*|*--begin*) exec {real} "$@"; esac
echo >> {asked}
if [ $(wc -l < {asked}) -gt 2 ]; then exec {real} "$@"; fi
echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
exit 1
"""
    )
    (tmp_path / "bin/sbatch").chmod(0o755)
    patient = Shadowed(cluster.folder, cluster.slurm, tmp_path / "bin")
    patient.snakemake(SCORES, "--force")
    assert len(asked.read_text()) == 3


def test_ctrl_c_ends_the_job_that_runs_and_the_one_that_waits(
    cluster: OnSlurm, tmp_path: Path
) -> None:
    """There is a place for one of two trainings."""
    real, taken, asked = shutil.which("sbatch"), tmp_path / "taken", tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sbatch").write_text(
        f"""#!/bin/sh
case "$*" in *--test-only*|*--begin*) exec {real} "$@"; esac
if mkdir {taken} 2> /dev/null; then exec {real} "$@"; fi
echo >> {asked}
echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
exit 1
"""
    )
    (tmp_path / "bin/sbatch").chmod(0o755)
    (tmp_path / "long.yaml").write_text(LONG.replace("seeds: [0]", "seeds: [0, 1]"))
    full = Shadowed(cluster.folder, cluster.slurm, tmp_path / "bin")
    full.start(TRAINED, TRAINED.replace("seed0", "seed1"), overlay="long.yaml")
    try:
        full.wait_until(lambda: full.jobs("RUNNING") and asked.exists(), "one runs, one waits")
        (job,) = full.jobs("RUNNING").values()
        full.slurm.signal_tasks(job, signal.SIGSTOP)
        assert full.end(signal.SIGINT) == 1
    finally:
        full.end()
    taken.rmdir()  # a submission that went on would find a place now
    wait_until(lambda: full.slurm.field(job, "%T") == "CANCELLED", "the job has ended")
    assert list(full.jobs("PENDING", "RUNNING", "COMPLETED", "CANCELLED").values()) == [job]
    waiting = [
        process
        for process in Path("/proc").glob("[0-9]*")
        if str(tmp_path).encode() in read(process / "environ")
        and b"aeflow.cluster" in read(process / "cmdline")
    ]
    assert waiting == []


def read(path: Path) -> bytes:
    """Return what a file has, nothing if it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


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
        place = programs / program.name
        if not slurm.fullmatch(program.name) and not place.exists() and not place.is_symlink():
            place.symlink_to(program)

    class WithoutSlurm(OnSlurm):
        def environment(self) -> dict[str, str]:
            environment = Repository(self.folder).environment()
            venv = environment["PATH"].split(os.pathsep)[0]
            return {**environment, "PATH": f"{venv}{os.pathsep}{programs}"}

    here = WithoutSlurm(copy_repository(tmp_path / "clone"), PrivateSlurm(tmp_path))
    assert here.plan() == clone.plan()
    refused = here.snakemake(check=False)
    assert refused.returncode == 1
    assert "there is no sbatch" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
