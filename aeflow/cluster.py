"""The batch system SLURM: how to learn the state of jobs, and whether it takes those of a run."""

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from aeflow.errors import ClusterError

# What sbatch says where a job cannot be queued now, but once others have ended.
FULL = re.compile("MaxSubmitJob|temporarily unable to accept job")
LONGEST_WAIT = 60  # seconds


def status_command() -> str:
    """Return the command that knows the state of jobs on this cluster, `sacct` or `squeue`.

    sacct is installed everywhere but answers only where SLURM keeps a database of jobs; without
    one, Snakemake would wait for its answer for ever.
    """
    pattern = r"^AccountingStorageType\s*=\s*accounting_storage/slurmdbd"
    known = shutil.which("scontrol") and _run("scontrol show config").stdout
    return "sacct" if known and re.search(pattern, known, re.MULTILINE) else "squeue"


def check_cluster(folder: Path) -> None:
    """Check that SLURM is here and answers, and that no job of an earlier run works in `folder`.

    Raises:
        ClusterError: it does not, or the submitting process was killed and its jobs go on.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "SLURM is not installed here (there is no sbatch): start on a login node of the "
            "cluster, or run on this machine without `--profile profiles/slurm`."
        )
    if _run("scontrol ping").returncode:
        raise ClusterError(
            "SLURM does not answer (`scontrol ping`): nothing was submitted, try again later."
        )
    # Snakemake's comment of each job starts with `rule_`.
    listed = _run("squeue --me --noheader --format '%i|%Z|%k'").stdout.splitlines()
    jobs = [line.split("|", 2) for line in listed if line.count("|") >= 2]
    left = [
        number
        for number, place, comment in jobs
        if comment.startswith("rule_") and Path(place).resolve() == folder.resolve()
    ]
    if left:
        raise ClusterError(
            f"Jobs of an earlier run still work in this folder: wait for their end, or "
            f"`scancel {' '.join(left)}` (a training then goes on from its last epoch), and "
            "start again."
        )


def check_requests(commands: Mapping[str, str]) -> None:
    """Check that SLURM takes the jobs of a run, before one is refused in the middle of it.

    By then Snakemake would have removed the outputs that the refused job was to replace.

    Args:
        commands: the `sbatch` command with all options of a job -> the job's rule or group.

    Raises:
        ClusterError: a partition, an account or a machine like that does not exist.
    """
    for command, rule in commands.items():
        if _run(f"{command} --test-only --wrap true").returncode == 0:
            continue
        # The test also fails where all nodes are drained; such a job would wait in the queue.
        queued = _run(f"{command} --begin=now+1day --wrap true")
        if queued.returncode == 0:
            _run(f"scancel {queued.stdout.split(';')[0].strip()}")
            continue
        if FULL.search(queued.stderr):
            continue
        prefix = "sbatch: error: |Batch job submission failed: "
        reason = re.sub(prefix, "", queued.stderr.strip().splitlines()[-1])
        raise ClusterError(
            f"SLURM refuses the jobs of {rule}: {reason}. Nothing was submitted; change what the "
            f"profile asks for: {_asked(command)}."
        )


def submit(command: Sequence[str]) -> int:
    """Run `sbatch`, again and again while the queue is full; return its status.

    Snakemake would take a full queue for a failure of the job, and remove what it was to replace.
    """
    wait = 1
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        if not FULL.search(done.stderr):
            break
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _asked(command: str) -> str:
    """Return those options of an sbatch command that say what a job needs."""
    silent = ("--parsable", "--export", "--requeue")
    named = ("--job-name", "--output", "--comment", "-D")
    words, shown = iter(shlex.split(command)[1:]), []
    for word in words:
        if word in named:
            next(words)
        elif not word.startswith(silent):
            shown.append(word)
    return " ".join(shown)


def _run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(submit(sys.argv[1:]))
