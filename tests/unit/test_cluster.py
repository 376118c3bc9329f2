"""What SLURM says, played by small programs of the same names; what its plugin gets wrong."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aeflow import cluster
from aeflow.cluster import check_cluster, check_requests, check_run, status_command, submit
from aeflow.core.errors import ClusterError

Program = Callable[[str, str], None]
ASKED = "sbatch --parsable --job-name check --output /dev/null --partition=gpu --mem 8000"
FULL = "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2\nexit 1"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Return what adds a program to a PATH on which there is no SLURM but these."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, lines: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)

    return add


@pytest.fixture
def slurm(program: Program) -> Program:
    """Return the same where SLURM is there and answers."""
    for name in ("sbatch", "scontrol", "squeue", "sinfo"):
        program(name, "exit 0")
    return program


@pytest.mark.parametrize(
    ("storage", "command"),
    [("accounting_storage/slurmdbd", "sacct"), ("accounting_storage/none", "squeue")],
)
def test_sacct_is_asked_only_where_a_database_answers(
    program: Program, storage: str, command: str
) -> None:
    assert status_command() == "squeue", "a plan needs no SLURM"
    program("sacct", "exit 0")
    enforced = "AccountingStorageEnforce = none"
    program("scontrol", f"echo '{enforced}'\necho 'AccountingStorageType   = {storage}'")
    assert status_command() == command


def test_a_machine_without_slurm_is_told_so_where_a_run_wants_it(
    program: Program, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match=r"no sbatch.*login node.*without `--profile"):
        check_cluster(tmp_path)
    check_run(SimpleNamespace(executor_plugin=SimpleNamespace(name="local")))


def test_a_dead_controller_is_told(slurm: Program, tmp_path: Path) -> None:
    slurm("squeue", "exit 1")
    with pytest.raises(ClusterError, match=r"does not answer \(`squeue`\): nothing was submitted"):
        check_cluster(tmp_path)
    slurm("scontrol", "exit 1")
    with pytest.raises(ClusterError, match=r"does not answer \(`scontrol ping`\)"):
        check_cluster(tmp_path)


def test_a_slurm_that_forgets_jobs_soon_is_refused(slurm: Program, tmp_path: Path) -> None:
    slurm("scontrol", "echo 'MinJobAge               = 299 sec'")
    with pytest.raises(ClusterError, match=r"299 s after its end \(MinJobAge\)"):
        check_cluster(tmp_path)
    slurm("scontrol", "echo 'MinJobAge               = 300 sec'")
    check_cluster(tmp_path)
    database = "AccountingStorageType   = accounting_storage/slurmdbd"
    slurm("scontrol", f"echo 'MinJobAge               = 2 sec'\necho '{database}'")
    check_cluster(tmp_path)


def test_jobs_of_a_killed_run_in_this_folder_are_named(slurm: Program, tmp_path: Path) -> None:
    jobs = [
        f"7|{tmp_path}|rule_train_model_wildcards_a_b",
        f"8|{tmp_path}|rule_evaluation",
        f"9|{tmp_path}/other|rule_train_model",  # of another checkout
        f"10|{tmp_path}|(null)",  # not Snakemake's
    ]
    slurm("squeue", "\n".join(f"echo '{job}'" for job in jobs))
    with pytest.raises(ClusterError, match="`scancel 7 8`"):
        check_cluster(tmp_path)
    check_cluster(tmp_path / "elsewhere")


def test_what_slurm_takes_is_not_submitted(slurm: Program, tmp_path: Path) -> None:
    slurm("sbatch", f'echo "$*" >> {tmp_path}/asked')
    check_requests({ASKED: "train_model"})
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"{ASKED.removeprefix('sbatch ')} --test-only --wrap true"
    ]


def test_what_has_to_wait_is_no_refusal(slurm: Program, tmp_path: Path) -> None:
    """A test fails where all nodes are drained, yet a job may wait in the queue."""
    slurm("sbatch", 'case "$*" in *--begin*) echo "12;cluster";; *) exit 1;; esac')
    slurm("scancel", f'echo "$*" > {tmp_path}/cancelled')
    check_requests({ASKED: "train_model"})
    assert (tmp_path / "cancelled").read_text() == "12\n"
    slurm("sbatch", FULL.replace("QOSMaxSubmitJobPerUserLimit", "AssocGrpSubmitJobsLimit"))
    check_requests({ASKED: "train_model"})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "Invalid partition name specified",
        ),
        ("", "sbatch ended with 4"),
    ],
)
def test_a_refusal_names_the_rule_the_reason_and_what_was_asked(
    slurm: Program, said: str, reason: str
) -> None:
    slurm("sbatch", f"printf '{said}' >&2\nexit 4")
    with pytest.raises(ClusterError) as caught:
        check_requests({ASKED: "train_model"})
    assert str(caught.value) == (
        f"SLURM refuses the jobs of train_model: {reason}. Nothing was submitted; change what the "
        "profile asks for: --partition=gpu --mem 8000."
    )


@pytest.mark.parametrize(
    ("asked", "longest"),
    [
        ("-t 1501", "1500"),
        ("-t 1500", None),
        ("--partition=short -t 31", "30"),
        ("--partition=short -t 30", None),
        ("--partition=short,long -t 5000", None),
        ("--partition=unheard_of -t 5000", None),
        ("--mem 5", None),
    ],
)
def test_a_time_that_no_partition_allows_is_refused(
    slurm: Program, asked: str, longest: str | None
) -> None:
    """SLURM takes such a job, by default, and lets it wait for ever."""
    limits = ["short|30:00", "day*|1-01:00:00", "long|infinite"]
    slurm("sinfo", "\n".join(f"echo '{limit}'" for limit in limits))
    requests = {f"sbatch --parsable {asked}": "train_model"}
    if longest is None:
        check_requests(requests)
    else:
        with pytest.raises(ClusterError, match=f"limit is {longest} minutes.*{asked}"):
            check_requests(requests)


def test_a_job_waits_for_its_place_in_a_full_queue(
    slurm: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    full, waited = tmp_path / "full", []
    full.touch()

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 8:
            full.unlink()

    monkeypatch.setattr("time.sleep", sleep)
    slurm("sbatch", f"if [ -e {full} ]; then\n{FULL}\nfi\necho $1")
    assert submit(["sbatch", "12"], os.getpid()) == 0
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60]
    assert capfd.readouterr() == ("12\n", "")


def test_a_job_is_not_submitted_again_when_refused_or_for_a_run_that_is_gone(
    slurm: Program, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slurm("sbatch", f"echo >> {tmp_path}/asked\necho 'invalid account' >&2\nexit 3")
    assert submit(["sbatch", "--parsable"], os.getpid()) == 3
    assert capfd.readouterr().err == "invalid account\n"
    assert len((tmp_path / "asked").read_text()) == 1
    slurm("sbatch", FULL)
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    assert submit(["sbatch"], ended.pid) == 1


def test_the_plugin_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    import snakemake_executor_plugin_slurm as plugin

    answers: list[Any] = [None, {"1": "CANCELLED by 1000", "2": "RUNNING"}]

    async def query(command: str, logger: Any) -> tuple[Any, float]:
        return answers.pop(0), 0.5

    monkeypatch.setattr(plugin, "query_job_status", query)
    monkeypatch.setattr(plugin, "get_submit_command", lambda *_: "sbatch --mem 1")
    monkeypatch.setattr(plugin.Executor, "cancel_jobs", None)
    cluster._mend_answers()
    cluster._wait_where_the_queue_is_full()
    ask = plugin.query_job_status
    assert asyncio.run(ask("sacct", None)) == ({}, 0.0), "no answer: the jobs are not forgotten"
    assert asyncio.run(ask("sacct", None)) == ({"1": "CANCELLED", "2": "RUNNING"}, 0.5)
    command = plugin.get_submit_command(None, {}, None)
    assert command == f"{sys.executable} -m aeflow.cluster {os.getpid()} sbatch --mem 1"
