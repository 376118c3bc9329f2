"""The batch system SLURM: is it there, does it take the jobs of a run, what its plugin gets wrong.

Written for snakemake-executor-plugin-slurm 2.8.0, whose functions are used and mended here; each
mend says what was seen without it.
"""

import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aeflow.core.errors import ClusterError

# What sbatch says where a job cannot be queued now, but once others have ended.
FULL = re.compile("SubmitJob|temporarily unable to accept job")
LONGEST_WAIT = 60  # seconds
# Snakemake looks at its jobs every 180 s at the latest.
SHORTEST_MEMORY = 300  # seconds


def status_command() -> str:
    """Return the command that knows the state of jobs on this cluster, `sacct` or `squeue`.

    sacct is installed everywhere but answers only where SLURM keeps a database of jobs; without
    one, Snakemake would wait for its answer for ever.
    """
    database = _configured("AccountingStorageType") == "accounting_storage/slurmdbd"
    return "sacct" if database else "squeue"


def check_run(workflow: Any) -> None:
    """Check that SLURM takes the jobs of a run, where they go there, and mend the plugin."""
    if workflow.executor_plugin.name != "slurm":
        return
    check_cluster(Path.cwd())
    jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    # In the same order each time, as the first rule that is refused is named.
    requests: dict[str, str] = {}
    for name, command in sorted((job.rule.name, _submission(workflow, job)) for job in jobs):
        requests.setdefault(command, name)
    check_requests(requests)
    _mend_answers()
    _wait_where_the_queue_is_full()


def _submission(workflow: Any, job: Any) -> str:
    """Return the `sbatch` command that the plugin makes of a job."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    asked = job.resources
    accounts = re.split(r"[,\s]+", str(asked.get("slurm_account") or ""))  # the first is taken
    options = {"account": accounts[0], "partition": asked.get("slurm_partition")}
    given = {
        key: f"--{key}={shlex.quote(str(value))}" if value else ""
        for key, value in options.items()
    }
    given |= {"run_uuid": "check", "slurm_logfile": os.devnull, "comment_str": "check"}
    given["workdir"] = workflow.workdir_init
    command = get_submit_command(job, given, workflow.executor_settings) + set_gres_string(job)
    return str(command)


def _mend_answers() -> None:
    """Let Snakemake ask again where SLURM does not answer, and know a cancelled job from sacct.

    The plugin forgets all running jobs where an answer fails, and takes none that sacct calls
    "CANCELLED by 1000" for ended: a run waited for both for ever.
    """
    import snakemake_executor_plugin_slurm as plugin

    asked = plugin.query_job_status

    async def answer(command: Any, logger: Any) -> tuple[dict[str, str], float]:
        states, seconds = await asked(command, logger)
        if states is None:
            return {}, 0.0
        return {job: state.partition(" ")[0] for job, state in states.items()}, seconds

    plugin.query_job_status = answer


def _wait_where_the_queue_is_full() -> None:
    """Submit by `submit`, and leave no submission behind after Ctrl-C.

    The plugin takes a full queue for a failed job, whose old output Snakemake removes, and its
    threads go on to submit after Ctrl-C.
    """
    import psutil
    import snakemake_executor_plugin_slurm as plugin

    command, cancel = plugin.get_submit_command, plugin.Executor.cancel_jobs
    submitting = f"{shlex.quote(sys.executable)} -m aeflow.cluster {os.getpid()}"

    def cancel_jobs(executor: Any, active_jobs: Any) -> None:
        """Cancel those that wait for a place too: they would take those of the others."""
        submissions = executor._job_submission_executor
        submissions.shutdown(wait=False, cancel_futures=True)
        while any(thread.is_alive() for thread in submissions._threads):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if "aeflow.cluster" in process.cmdline():
                        process.terminate()
            time.sleep(0.1)
        cancel(executor, active_jobs)
        # And what was submitted a moment ago: the name of all jobs is that of the run.
        subprocess.run(["scancel", "--me", f"--name={executor.run_uuid}"], check=False)

    plugin.get_submit_command = lambda *given, **named: f"{submitting} {command(*given, **named)}"
    plugin.Executor.cancel_jobs = cancel_jobs


def check_cluster(folder: Path) -> None:
    """Check that SLURM is here and answers, and that no job of an earlier run works in `folder`.

    Raises:
        ClusterError: it does not, or forgets jobs too soon, or the submitting process was killed
            and its jobs go on.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "SLURM is not installed here (there is no sbatch): start on a login node of the "
            "cluster, or run on this machine without `--profile profiles/slurm`."
        )
    listed = _run("squeue --me --noheader --format '%i|%Z|%k'")
    for question, answer in {"scontrol ping": _run("scontrol ping"), "squeue": listed}.items():
        if answer.returncode:
            raise ClusterError(
                f"SLURM does not answer (`{question}`): nothing was submitted, try again later."
            )
    memory = re.match(r"\d+", _configured("MinJobAge"))
    if status_command() == "squeue" and memory and 0 < int(memory[0]) < SHORTEST_MEMORY:
        raise ClusterError(
            f"This SLURM has no database of jobs and forgets a job {memory[0]} s after its end "
            f"(MinJobAge): Snakemake, which looks every three minutes, could wait for ever. Ask "
            f"its administrators for {SHORTEST_MEMORY} s; nothing was submitted."
        )
    # Snakemake's comment of each job starts with `rule_`.
    jobs = [line.split("|", 2) for line in listed.stdout.splitlines() if line.count("|") >= 2]
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
    limits = _time_limits()
    for command, rule in commands.items():
        # SLURM itself would let such a job wait for ever.
        minutes = _option(command, r"-t (\d+)")
        partitions = _option(command, r"--partition=(\S+)").split(",")
        longest = max(limits.get(partition, math.inf) for partition in partitions)
        if minutes and int(minutes) > longest:
            raise _refusal(rule, f"The partition's limit is {longest:g} minutes", command)
        if _run(f"{command} --test-only --wrap true").returncode == 0:
            continue
        # The test also fails where all nodes are drained; such a job would wait in the queue.
        queued = _run(f"{command} --begin=now+1day --wrap true")
        if queued.returncode == 0:
            _run(f"scancel {queued.stdout.split(';')[0].strip()}")
            continue
        if FULL.search(queued.stderr):
            continue
        said = queued.stderr.strip().splitlines() or [f"sbatch ended with {queued.returncode}"]
        prefix = "sbatch: error: |Batch job submission failed: "
        raise _refusal(rule, re.sub(prefix, "", said[-1]), command)


def submit(command: Sequence[str], snakemake: int) -> int:
    """Run `sbatch`, again and again while the queue is full; return its status.

    Snakemake would take a full queue for a failure of the job, and remove what it was to replace.

    Args:
        command: `sbatch` and its arguments.
        snakemake: process that wants the job; when it is gone, so is the wish.
    """
    wait = 1
    while (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        if not FULL.search(done.stderr) or not Path(f"/proc/{snakemake}").exists():
            break
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _refusal(rule: str, reason: str, command: str) -> ClusterError:
    return ClusterError(
        f"SLURM refuses the jobs of {rule}: {reason}. Nothing was submitted; change what the "
        f"profile asks for: {_asked(command)}."
    )


def _option(command: str, pattern: str) -> str:
    """Return the value of an option of a command, or nothing."""
    found = re.search(rf" {pattern}(?: |$)", shlex.join(shlex.split(command)))
    return shlex.split(found[1])[0] if found else ""


def _time_limits() -> dict[str, float]:
    """Return partition -> minutes that a job may take; under "" that of the default one."""
    limits = {}
    for line in _run("sinfo --noheader --format '%P|%l'").stdout.splitlines():
        name, _, limit = line.partition("|")
        days, _, time_of_day = limit.rpartition("-")
        parts = [int(part) for part in time_of_day.split(":") if part.isdigit()]
        seconds = sum(part * 60**i for i, part in enumerate(reversed(parts)))
        minutes = int(days or 0) * 24 * 60 + seconds / 60 if parts else math.inf
        limits[name.rstrip("*")] = minutes
        if name.endswith("*"):
            limits[""] = minutes
    return limits


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


def _configured(key: str) -> str:
    """Return a value of SLURM's configuration, or nothing where there is none to ask."""
    said = _run("scontrol show config").stdout if shutil.which("scontrol") else ""
    found = re.search(rf"^{key}\s*=\s*(.*)$", said, re.MULTILINE)
    return found[1].strip() if found else ""


def _run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    # Ctrl-C is Snakemake's matter: it would take the end of a submission for a failed job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(submit(sys.argv[2:], int(sys.argv[1])))
