"""What SLURM says, played by small programs of the same names."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aeflow.cluster import check_cluster, check_requests, status_command, submit
from aeflow.core.errors import ClusterError

Program = Callable[[str, str], None]
ASKED = "sbatch --parsable --job-name check --output /dev/null --partition=gpu --mem 8000"


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
    program("sbatch", "exit 0")
    program("scontrol", "exit 0")
    program("squeue", "exit 0")
    program("sinfo", "exit 0")
    return program


@pytest.mark.parametrize(
    ("storage", "command"),
    [
        ("accounting_storage/slurmdbd", "sacct"),
        ("accounting_storage/none", "squeue"),
        ("(null)", "squeue"),
    ],
)
def test_sacct_is_asked_only_where_a_database_answers(
    program: Program, storage: str, command: str
) -> None:
    program("sacct", "exit 0")
    enforced = "AccountingStorageEnforce = none"
    program("scontrol", f"echo '{enforced}'\necho 'AccountingStorageType   = {storage}'")
    assert status_command() == command


def test_a_plan_needs_no_slurm(program: Program) -> None:
    assert status_command() == "squeue"


def test_a_machine_without_slurm_is_told_so(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no sbatch.*login node.*without `--profile"):
        check_cluster(tmp_path)


def test_a_dead_controller_is_told(slurm: Program, tmp_path: Path) -> None:
    slurm("squeue", "exit 1")
    with pytest.raises(ClusterError, match=r"does not answer \(`squeue`\): nothing was submitted"):
        check_cluster(tmp_path)
    slurm("scontrol", "exit 1")
    with pytest.raises(ClusterError, match=r"does not answer \(`scontrol ping`\)"):
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


@pytest.mark.parametrize("limit", ["QOSMaxSubmitJobPerUserLimit", "AssocGrpSubmitJobsLimit"])
def test_a_full_queue_is_no_refusal(slurm: Program, limit: str) -> None:
    slurm("sbatch", f"echo 'sbatch: error: {limit}' >&2\nexit 1")
    check_requests({ASKED: "train_model"})


def test_a_job_is_not_submitted_for_a_run_that_is_gone(slurm: Program, tmp_path: Path) -> None:
    slurm("sbatch", "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2\nexit 1")
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    assert submit(["sbatch"], ended.pid) == 1


@pytest.mark.parametrize(
    ("asked", "longest"),
    [
        ("-t 240", None),
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


def test_a_refusal_without_words_is_one_too(slurm: Program) -> None:
    slurm("sbatch", "exit 4")
    with pytest.raises(ClusterError, match="train_model: sbatch ended with 4"):
        check_requests({ASKED: "train_model"})


def test_a_slurm_that_forgets_jobs_soon_is_refused(slurm: Program, tmp_path: Path) -> None:
    slurm("scontrol", "echo 'MinJobAge               = 299 sec'")
    with pytest.raises(ClusterError, match=r"299 s after its end \(MinJobAge\)"):
        check_cluster(tmp_path)
    slurm("scontrol", "echo 'MinJobAge               = 300 sec'")
    check_cluster(tmp_path)
    database = "AccountingStorageType   = accounting_storage/slurmdbd"
    slurm("scontrol", f"echo 'MinJobAge               = 2 sec'\necho '{database}'")
    check_cluster(tmp_path)


def test_a_refused_submission_is_not_tried_again(
    slurm: Program, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slurm("sbatch", f"echo >> {tmp_path}/asked\necho 'invalid account' >&2\nexit 3")
    assert submit(["sbatch", "--parsable"], os.getpid()) == 3
    assert capfd.readouterr().err == "invalid account\n"
    assert len((tmp_path / "asked").read_text()) == 1


def test_a_refusal_names_the_rule_the_reason_and_what_was_asked(slurm: Program) -> None:
    refusal = "sbatch: error: Batch job submission failed: Invalid partition name specified"
    slurm("sbatch", f'echo "{refusal}" >&2\nexit 1')
    with pytest.raises(ClusterError) as caught:
        check_requests({ASKED: "train_model"})
    assert str(caught.value) == (
        "SLURM refuses the jobs of train_model: Invalid partition name specified. Nothing was "
        "submitted; change what the profile asks for: --partition=gpu --mem 8000."
    )
