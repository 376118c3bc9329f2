# After a run with failures: what is missing and why, beside what is there.
import shutil
import subprocess

INCOMPLETE = f"{RESULTS}/incomplete"


def report_failures():
    """Write a report of the cells that are there; a complete one of before stays as it is.

    What is there is what Snakemake knows: a file that an earlier run left, and that this run
    would have made again, is not a result. Only for runs that were to make every cell.
    """
    dag = workflow.dag
    waiting = set(dag.needrun_jobs())
    steps = [
        step
        for job in sorted(workflow.scheduler.failed)
        for step in (job.jobs if job.is_group() else [job])
    ]
    cells = {cell_of(j.wildcards): j for j in dag.jobs if j.rule.name == "evaluate_scores"}
    if not set(CELLS) <= set(cells):
        return
    missing = [
        json.loads(cells[cell].params.identity) | {"steps": failed_before(cells[cell], steps)}
        for cell in CELLS
        if cells[cell] in waiting
    ]
    described = [
        {"rule": step.rule.name, "of": " ".join(step.wildcards), "log": str(step.log[0])}
        for step in steps
    ]
    command = [sys.executable, "scripts/report_failures.py", "--study", STUDY.study]
    command += ["--datasets", card_entries(), "--published", "config/published.yaml"]
    command += ["--folder", RESULTS, "--out", INCOMPLETE, "--cells", pack_cells(CELLS)]
    command += ["--trained", pack_cells(shown_trainings()), "--variants", *sorted(NAMED)]
    subprocess.run(
        command, input=json.dumps({"steps": described, "cells": missing}), text=True, check=False
    )


def failed_before(job, steps):
    """Return the numbers of the failed steps that a job waits for, or its own."""
    found, waiting = {job}, [job]
    while waiting:
        behind = set(workflow.dag.dependencies[waiting.pop()]) - found
        found |= behind
        waiting += behind
    return [number for number, step in enumerate(steps) if step in found]


def remove_incomplete():
    """Remove the report of an earlier run with failures, once there is a complete one."""
    if any(job.rule.name == "build_report" for job in workflow.dag.jobs):
        shutil.rmtree(INCOMPLETE, ignore_errors=True)
