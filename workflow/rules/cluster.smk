# What has to be right before the first job is submitted to a cluster (profiles/slurm).

import os
import subprocess
import time
from contextlib import suppress

import psutil

from aeflow.cluster import check_cluster, check_requests


def check_slurm():
    """End with a sentence where SLURM is missing, does not answer or refuses a job of this run."""
    if workflow.executor_plugin.name != "slurm":
        return
    try:
        check_cluster(Path.cwd())
        group_of = workflow.dag.get_job_group
        jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
        units = {group_of(job) or job for job in jobs}
        # In the same order each time, as the first rule that is refused is named.
        requests = {}
        for name, command in sorted((unit.name, submission(unit)) for unit in units):
            requests.setdefault(command, name)
        check_requests(requests)
    except AeflowError as error:
        sys.exit(str(error))
    mend_answers()
    wait_where_the_queue_is_full()


def mend_answers():
    """Let Snakemake ask again where SLURM does not answer, and know a cancelled job from sacct.

    Version 2.8.0 of the plugin forgets all running jobs where an answer fails, and takes none that
    sacct calls "CANCELLED by 1000" for ended: it would wait for both for ever.
    """
    import snakemake_executor_plugin_slurm as plugin

    asked = plugin.query_job_status

    async def answer(command, logger):
        states, seconds = await asked(command, logger)
        if states is None:
            return {}, 0.0
        return {job: state.partition(" ")[0] for job, state in states.items()}, seconds

    plugin.query_job_status = answer


def wait_where_the_queue_is_full():
    import snakemake_executor_plugin_slurm as plugin

    command, cancel = plugin.get_submit_command, plugin.Executor.cancel_jobs
    submit = f"{shlex.quote(sys.executable)} -m aeflow.cluster {os.getpid()}"

    def cancel_jobs(executor, active_jobs):
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

    plugin.get_submit_command = lambda *given, **named: f"{submit} {command(*given, **named)}"
    plugin.Executor.cancel_jobs = cancel_jobs


def submission(job):
    """Return the `sbatch` command that Snakemake's plugin makes of a job or a group of them."""
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
    return get_submit_command(job, given, workflow.executor_settings) + set_gres_string(job)
