# Before the first job and after the last one.
import shutil
import subprocess

from aeflow.cluster import check_run
from aeflow.core.errors import DataError
from aeflow.core.files import check_writable, write_json

INCOMPLETE = f"{RESULTS}/incomplete"


def start_study():
    """Write what scripts read of the study, and end with a sentence where no run could succeed."""
    outputs = [str(path) for rule in workflow.rules for path in rule.output]
    try:
        # Up to the first wildcard, folders are the same for all jobs of a rule.
        for folder in sorted({Path(path.partition("{")[0] + "x").parent for path in outputs}):
            check_writable(folder)
        write_json(STUDY_FILE, STUDY.model_dump(mode="json"))
        check_galleries()
        check_run(workflow)
    except AeflowError as error:
        sys.exit(str(error))


def report_failures():
    """Report on the cells that are there; a complete report of before stays as it is.

    What is there is what Snakemake knows: a file that an earlier run left, and that this run would
    have made again, is not a result. Only for runs that were to make every cell.
    """
    dag = workflow.dag
    waiting = set(dag.needrun_jobs())
    failed = [
        job
        for unit in sorted(workflow.scheduler.failed)
        for job in (unit.jobs if unit.is_group() else [unit])
    ]
    judging = {
        cells.Cell(w.dataset, w.category, w.variant, int(w.seed)): job
        for job in dag.jobs
        if job.rule.name == "evaluate_scores"
        for w in [job.wildcards]
    }
    if not set(TABLES) <= set(judging):
        return
    missing = [
        {"table": cell, "failed": failed_before(judging[cell], failed)}
        for cell in TABLES
        if judging[cell] in waiting
    ]
    described = [
        {"rule": job.rule.name, "of": " ".join(job.wildcards), "log": str(job.log[0])}
        for job in failed
    ]
    failures = Path(INCOMPLETE, "failures.json")
    try:
        write_json(failures, {"jobs": described, "missing": missing})
    except AeflowError as error:
        print(f"There is no report of what failed: {error}", file=sys.stderr)
        return
    command = [sys.executable, "scripts/build_report.py", "--study", str(STUDY_FILE)]
    subprocess.run([*command, "--failures", str(failures)], check=False)


def failed_before(job, failed):
    """Return the numbers of the failed jobs that a job waits for, or its own."""
    found, waiting = {job}, [job]
    while waiting:
        behind = set(workflow.dag.dependencies[waiting.pop()]) - found
        found |= behind
        waiting += behind
    return [number for number, other in enumerate(failed) if other in found]


def remove_incomplete():
    """Remove the report of an earlier run with failures, once there is a complete one."""
    if any(job.rule.name == "build_report" for job in workflow.dag.jobs):
        shutil.rmtree(INCOMPLETE, ignore_errors=True)


def check_galleries():
    """Check that the example images of figures are here, or that a job makes them.

    A gallery is no rule's input: Snakemake makes an absent input again with all it rests on, and a
    clone that judges again would train.
    """
    jobs = [job for job in workflow.dag.needrun_jobs() if job.output]  # not `all`
    made = {str(path) for job in jobs for path in job.output}
    absent = set()
    for job in jobs:
        if job.rule.name == "plot_figure":
            for path in contents.galleries(STUDY, job.wildcards.figure, job.wildcards.of):
                if str(path) not in made and not path.exists():
                    absent.add(str(path.parents[2]))
    if absent:
        raise DataError(
            f"Example images are needed that are not here: `dvc pull {' '.join(sorted(absent))}` "
            "brings those of a study that was shared. To make them again instead, delete the "
            "receipts of their score tables (`.json`) and run the same."
        )
