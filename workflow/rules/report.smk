# What a study shows, and after a run with failures what is there and what is missing.
import shutil
import subprocess

INCOMPLETE = f"{RESULTS}/incomplete"


rule build_report:
    input:
        strings(contents.page_inputs(STUDY)),
    output:
        report=pattern("report"),
        headline=pattern("headline"),
    log:
        f"{RESULTS}/logs/build_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_report.tsv"
    params:
        code=code("build_report"),
        asked=SHOWN,
        of="",
    message:
        "Build the report"
    shell:
        RUN


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
    write_json(Path(INCOMPLETE, "failures.json"), {"jobs": described, "missing": missing})
    command = [sys.executable, "scripts/build_report.py", "--study", STUDY_FILE]
    subprocess.run([*command, "--failures", f"{INCOMPLETE}/failures.json"], check=False)


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
    """End with a sentence where figures need example images that are not here and no job makes.

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
        sys.exit(
            f"Example images are needed that are not here: `dvc pull {' '.join(sorted(absent))}` "
            "brings those of a study that was shared. To make them again instead, delete the "
            "receipts of their score tables (`.json`) and run the same."
        )
