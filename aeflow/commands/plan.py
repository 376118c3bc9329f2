"""What a run would do, how long it may take and what it leaves on the disk (`aeflow plan`)."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from tabulate import tabulate

from aeflow.core.text import megabytes, span
from aeflow.study.cells import PAYLOAD, STEPS, Given, jobs_of, path
from aeflow.study.defaults import load_study
from aeflow.study.runs import Earlier, summary, why
from aeflow.study.study import Study

Known = list[float | None]  # None: nothing like it is here


def plan_study(configs: Sequence[Path]) -> None:
    """Print a line for each rule that would run, and what all take together."""
    study, earlier = load_study(configs), Earlier()
    receipts = {path(study, STEPS[step].receipt, given): given for step, given in jobs_of(study)}
    waiting: dict[str, dict[Path, str]] = defaultdict(dict)
    for file, rule, reason in to_make(configs):
        waiting[rule][file] = reason
    if not waiting:
        print(f"{study.study}: nothing to be done")
        return
    lines, times, sizes = [], Known(), Known()
    for rule, files in waiting.items():
        # A job is counted once: by its receipt, or by its first output, of a table the .csv.
        ending = next(iter(files)).suffix
        jobs = [receipts[file] for file in files if file in receipts] or [
            {} for file in files if file.suffix == ending
        ]
        took = [earlier.seconds(rule, job) for job in jobs]
        takes = [size for job in jobs for size in _new_bytes(study, rule, job, earlier)]
        reason = Counter(files.values()).most_common(1)[0][0]
        disk = _sum(takes, megabytes) if takes else ""
        lines.append((rule, len(jobs), reason, _sum(took, span), disk))
        times, sizes = times + took, sizes + takes
    heads = ("step", "jobs", "most because", "time", "new payload")
    aligned = ("left", "right", "left", "right", "right")
    print(tabulate(lines, heads, disable_numparse=True, colalign=aligned))
    new = "\nOf a new step the run tells how much time is left once a job, or an epoch, is done."
    new *= None in times
    print(
        f"\n{study.study}: {len(times)} jobs; one after another: "
        f"{_sum(times, span)}; new payload: {_sum(sizes, megabytes)}; free: "
        f"{megabytes(shutil.disk_usage('.').free)}.\nMeans of the same step, dataset and variant "
        f"in any study here, whatever its settings; `+`: some have none yet.{new}"
    )


def to_make(configs: Sequence[Path]) -> list[tuple[Path, str, str]]:
    """Return file, rule and reason of what Snakemake would make; DataError: it cannot say."""
    return [
        (Path(row[0]), row[2], why(row[4]) or row[4])
        for row in summary(configs)
        if row[5:] == ["update pending"]
    ]


def _new_bytes(study: Study, rule: str, job: Given, earlier: Earlier) -> Known:
    """Return the size of each payload of a job that is not here yet."""
    names = [name for name in STEPS[rule].makes if name in PAYLOAD] if rule in STEPS else []
    names = [name for name in names if not path(study, name, job).exists()]
    sizes = [earlier.size(name, job) for name in names]
    if names == ["archive"] and sizes == [None]:  # what the card says, if the source is its own
        entry = study.entry_of(job["archive"])
        told = [] if entry.source else [file.size_bytes for file in study.card(entry.name).files]
        return [sum(filter(None, told)) if told and all(told) else None]
    return sizes


def _sum(values: Known, shown: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    more = "" if len(known) == len(values) else "+"
    return shown(sum(known)) + more if known or not values else "unknown"
