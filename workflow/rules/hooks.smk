# Before the first job and after the last one.
import shutil
import subprocess

from aeflow.cluster import check_run
from aeflow.core.errors import DataError
from aeflow.core.files import check_writable, write_json
from aeflow.core.job import why_failed
from aeflow.report.headline import headline
from aeflow.report.warned import on_terminal, warnings_of

MANY_EPOCHS = 1000  # an hour or so, of a small encoder
INCOMPLETE = cells.path(STUDY, "incomplete", {})
LOGS = f"the logs below {RESULTS}/logs and results/logs"


def start_study():
    """Write what scripts read of the study, and end with a sentence where no run could succeed."""
    outputs = [str(path) for rule in workflow.rules for path in rule.output]
    jobs = list(workflow.dag.needrun_jobs())
    made = {Path(str(path)).parent for job in jobs for path in job.output}
    try:
        # Up to the first wildcard, folders are the same for all jobs of a rule.
        same = {Path(path.partition("{")[0] + "x").parent for path in outputs}
        for folder in [*sorted(same), *sorted(made)]:
            check_writable(folder)
        write_json(STUDY_FILE, STUDY.model_dump(mode="json"))
        check_galleries()
        check_run(workflow)
    except AeflowError as error:
        sys.exit(str(error))
    tell_long(jobs)


def tell_long(jobs):
    """Say so before hours of training begin on a machine without a GPU."""
    epochs = {}
    for job in jobs:
        if job.rule.name == "train_model" and not METHODS[job.wildcards.variant].closed:
            training = STUDY.fit_settings(job.wildcards.dataset, job.wildcards.variant).training
            epochs[job] = training.epochs
    if sum(epochs.values()) < MANY_EPOCHS or workflow.non_local_exec:
        return
    from aeflow.training.devices import choose_device  # torch, a second of an hour

    if choose_device("auto").type == "cpu":
        print(
            f"{len(epochs)} trainings of up to {max(epochs.values())} epochs, and no GPU here: this takes hours, "
            "with a large encoder days. `aeflow plan` tells what is known of their times; `aeflow init FOLDER` "
            "writes a study of your images that takes minutes. Ctrl-C stops, and nothing is lost.",
            file=sys.stderr,
            flush=True,
        )


def report_success():
    """Tell what the results were warned of; a report of earlier failures has served."""
    if any(job.rule.name == "build_report" for job in workflow.dag.jobs):
        shutil.rmtree(INCOMPLETE, ignore_errors=True)
        page = cells.path(STUDY, "report", {})
        tell(warnings_there(), str(page))
        print(f"{headline(STUDY)}\nReport: {page}", file=sys.stderr, flush=True)
    else:
        tell(warnings_there(), LOGS)


def report_failures():
    """Tell why jobs failed, report on what is there, and tell what that was warned of."""
    failed = failed_jobs()
    if not failed:  # ended by Ctrl-C
        return
    described = [describe(job) for job in failed]
    print(f"{len(failed)} job{'s' * (len(failed) > 1)} failed.", file=sys.stderr)
    warnings = warnings_there()
    tell(warnings, report_incomplete(failed, described, warnings) or LOGS)


def failed_jobs():
    failed = workflow.scheduler.failed
    jobs = [job for unit in failed for job in (unit.jobs if unit.is_group() else [unit])]
    return sorted(jobs, key=lambda job: str(job.log[0]))


def describe(job):
    log = Path(str(job.log[0]))
    of = " ".join(job.wildcards) or STUDY.study
    return {"rule": job.rule.name, "of": of, "log": str(log), "reason": why_failed(log)}


def warnings_there():
    """Return what the jobs behind this run warned of, those aside that failed or never ran.

    Also those that had nothing to do: a warning is about the results that stand there, whichever
    run made them. Where nothing at all is to be done, Snakemake calls no hook; the report has them.
    """
    waiting = set(workflow.dag.needrun_jobs())
    done = [
        job for job in workflow.dag.jobs if job not in waiting and job.rule.name in cells.STEPS
    ]
    try:
        return warnings_of(STUDY, [(job.rule.name, dict(job.wildcards.items())) for job in done])
    except AeflowError as error:
        print(f"What the jobs warned of cannot be told: {error}", file=sys.stderr)
        return []


def tell(warnings, rest):
    """Print warnings on stderr, where no `--quiet` hides them."""
    if warnings:
        columns = shutil.get_terminal_size().columns
        print(on_terminal(warnings, rest, columns), file=sys.stderr, flush=True)


def report_incomplete(failed, described, warnings):
    """Report on the cells that are there and return the page, or None if there is none.

    A complete report of before stays as it is. What is there is what Snakemake knows: a file that
    an earlier run left, and that this run would have made again, is not a result. Only for runs
    that were to make every cell.
    """
    dag = workflow.dag
    waiting = set(dag.needrun_jobs())
    judging = {
        cells.Cell(w.dataset, w.category, w.variant, int(w.seed)): job
        for job in dag.jobs
        if job.rule.name == "evaluate_scores"
        for w in [job.wildcards]
    }
    if not set(TABLES) <= set(judging):
        return None
    missing = [
        {"table": cell, "failed": failed_before(judging[cell], failed)}
        for cell in TABLES
        if judging[cell] in waiting
    ]
    failures = Path(INCOMPLETE, "failures.json")
    try:
        told = [warned._asdict() for warned in warnings]
        write_json(failures, {"jobs": described, "missing": missing, "warnings": told})
    except AeflowError as error:
        print(f"There is no report of what failed: {error}", file=sys.stderr)
        return None
    for step in ("build_browse", "build_report"):
        command = [sys.executable, f"scripts/{step}.py", "--study", str(STUDY_FILE)]
        done = subprocess.run([*command, "--failures", str(failures)], check=False)
    return str(failures.with_name("report.html")) if done.returncode == 0 else None


def failed_before(job, failed):
    """Return the numbers of the failed jobs that a job waits for, or its own."""
    found, waiting = {job}, [job]
    while waiting:
        behind = set(workflow.dag.dependencies[waiting.pop()]) - found
        found |= behind
        waiting += behind
    return [number for number, other in enumerate(failed) if other in found]


def check_galleries():
    """Check that the images of figures and pages are here, or that a job makes them.

    A gallery is no rule's input: Snakemake makes an absent input again with all it rests on, and a
    clone that judges again would train.
    """
    jobs = [job for job in workflow.dag.needrun_jobs() if job.output]  # not `all`
    made = {str(path) for job in jobs for path in job.output}
    absent = set()
    for job in jobs:
        shown = []
        if job.rule.name == "plot_figure":
            shown = contents.galleries(STUDY, job.wildcards.figure, job.wildcards.of)
        elif job.rule.name in ("build_report", "build_browse"):
            page = {"build_report": "page", "build_browse": "browse"}[job.rule.name]
            shown = contents.galleries(STUDY, page)
        for path in shown:
            if str(path) not in made and not path.exists():
                absent.add(str(path.parents[2]))
    if absent:
        raise DataError(
            f"Pictures of test images are needed that are not here: `dvc pull {' '.join(sorted(absent))}` "
            "brings those of a study that was shared. To make them again instead, delete the "
            "receipts of their score tables (`.json`) and run the same."
        )
