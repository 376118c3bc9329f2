# What has to be right before the first job is submitted to a cluster (profiles/slurm).

import os

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
        requests = {submission(unit): unit.name for unit in units}
        # In the same order each time: the first that is refused is named.
        check_requests(dict(sorted(requests.items(), key=lambda item: item[1])))
    except AeflowError as error:
        sys.exit(str(error))
    keep_jobs_without_an_answer()
    wait_where_the_queue_is_full()


def keep_jobs_without_an_answer():
    """Let Snakemake ask again where SLURM does not answer for a while.

    Version 2.8.0 of the plugin forgets all running jobs then, and waits for them for ever.
    """
    import snakemake_executor_plugin_slurm as plugin

    asked = plugin.query_job_status

    async def answer(command, logger):
        states, seconds = await asked(command, logger)
        return ({}, 0.0) if states is None else (states, seconds)

    plugin.query_job_status = answer


def wait_where_the_queue_is_full():
    import snakemake_executor_plugin_slurm as plugin

    command = plugin.get_submit_command
    python = shlex.quote(sys.executable)
    plugin.get_submit_command = (
        lambda *given, **named: f"{python} -m aeflow.cluster {command(*given, **named)}"
    )


def submission(job):
    """Return the `sbatch` command that Snakemake's plugin makes of a job or a group of them."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    asked = job.resources
    options = {"account": asked.get("slurm_account"), "partition": asked.get("slurm_partition")}
    given = {
        key: f"--{key}={shlex.quote(str(value))}" if value else ""
        for key, value in options.items()
    }
    given |= {"run_uuid": "check", "slurm_logfile": os.devnull, "comment_str": "check"}
    given["workdir"] = workflow.workdir_init
    return get_submit_command(job, given, workflow.executor_settings) + set_gres_string(job)
