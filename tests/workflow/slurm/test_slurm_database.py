"""A SLURM that keeps a database of jobs, as most clusters do: their state is asked from sacct."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.conftest import Repository
from tests.workflow.slurm.private_slurm import LOG, LONG, TRAINED, PrivateSlurm, Shadowed
from tests.workflow.slurm.test_slurm_runs import TRAINING, cancel, requeue, training_starts
from tests.workflow.test_reruns import digest


@pytest.fixture
def cluster(finished_tiny: Repository, tmp_path: Path) -> Iterator[Shadowed]:
    """As that of the other tests, but with a database."""
    slurm = PrivateSlurm(tmp_path / "slurm", database=True)
    slurm.start()
    shutil.copytree(finished_tiny.folder, tmp_path / "study")
    (tmp_path / "study/long.yaml").write_text(LONG)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sacct", "squeue"):
        (programs / name).write_text(
            f'#!/bin/sh\necho "$@" >> {programs / name}.asked\nexec {shutil.which(name)} "$@"\n'
        )
        (programs / name).chmod(0o755)
    cluster = Shadowed(tmp_path / "study", slurm, programs)
    yield cluster
    cluster.end()
    slurm.stop()


def test_a_training_requeued_and_cancelled_is_followed_by_sacct(
    cluster: Shadowed, undisturbed: str
) -> None:
    cluster.start(TRAINED, overlay="long.yaml")
    requeue(cluster.slurm, training_starts(cluster))
    log = cluster.folder / LOG
    cluster.wait_until(
        lambda: log.exists() and "resuming in epoch" in log.read_text(), "it goes on"
    )
    cancel(cluster.slurm, cluster.jobs("RUNNING")[TRAINING.format(0)])
    cluster.finishes()
    assert digest(cluster.folder / TRAINED) == undisturbed
    # The plugin asks for the jobs of its run by their name.
    assert "--name" in (cluster.programs / "sacct.asked").read_text()
    assert "--name" not in (cluster.programs / "squeue.asked").read_text()
    states = cluster.slurm.run("sacct", "-X", "--noheader", "--parsable2", "--format=State")
    assert [line.split()[0] for line in states.splitlines()] == ["CANCELLED", "COMPLETED"]
