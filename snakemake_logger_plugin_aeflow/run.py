"""A run as it goes on: its jobs, the time that is left, and what failed and why."""

import logging
import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from snakemake.logging import show_logs
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from aeflow.core.job import SILENT, why_failed
from aeflow.core.text import span
from aeflow.study.runs import Earlier

_EPOCH = re.compile(r"epoch (\d+)(?: of (\d+))?(.*)")
_RESUMED = re.compile(r"resuming in epoch (\d+)")
_LOSS = re.compile(r"(\w+_loss) (\S+)")
_END = 4096  # bytes at the start of a log in which a training says where it goes on, and at its
# end in which its last line stands
# Lines of Snakemake that say nothing about this run.
_NO_NEWS = (
    "Building DAG of jobs",
    "Using shell",
    "Provided ",
    "Rules claiming",
    "Group jobs",
    "Conda environments",
    "Singularity containers",
    "Assuming unrestricted shared",
    "Using profile",
    "Select jobs to execute",
    "Execute ",
    "Reasons:",
    "Some jobs were triggered",
    "This was a dry-run",
    "Complete log",
    "Exiting because a job",
    "Removing output files of failed job",
    "Elapsed time",
    "Config file ",
    "host:",
)


def event_of(record: logging.LogRecord) -> LogEvent | None:
    """Return what a record is about, None: a line."""
    event: LogEvent | None = getattr(record, "event", None)
    return event


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line is to be seen: all warnings, and what is not said in every run."""
    if event_of(record) not in (None, LogEvent.ERROR) or not record.msg:
        return False
    return record.levelno >= logging.WARNING or not str(record.msg).startswith(_NO_NEWS)


@dataclass
class Job:
    """A job that was started."""

    rule: str
    does: str  # the rule's message
    of: str  # its wildcards
    log: Path | None
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since its start."""
        return time.monotonic() - self.started

    def stands(self) -> str:
        """Return how far a training is: epoch and loss, as its log says."""
        epoch, last, losses = self._epoch()
        loss = ", ".join(f"{name} {value}" for name, value in _LOSS.findall(losses))
        of = f" of {last}" * bool(last)
        return f"epoch {epoch}{of}{f', {loss}' * bool(loss)}" if epoch else ""

    def takes(self) -> tuple[float, float] | None:
        """Return the seconds of a whole training and of its rest, None: it tells no epochs."""
        epoch, last, _ = self._epoch()
        if self.log is None or not last:
            return None
        with self.log.open("rb") as file:
            resumed = _RESUMED.search(file.read(_END).decode("utf-8", "replace"))
        done = int(epoch) - (int(resumed[1]) - 1 if resumed else 0)
        each = self.seconds / done if done > 0 else 0
        return (each * int(last), each * (int(last) - int(epoch))) if each else None

    def _epoch(self) -> tuple[str, str, str]:
        """Return the last epoch in the log, of how many, and its losses."""
        if self.log is None or not self.log.is_file():
            return "", "", ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _END))
            found = _EPOCH.findall(file.read().decode("utf-8", "replace"))
        return found[-1] if found else ("", "", "")


class Run:
    """What is known of a run: from Snakemake's events, logs, and benchmarks of earlier runs.

    Jobs are told to be silent (the environment says so): a sentence is told once, here.
    """

    def __init__(self, show_failed_logs: bool) -> None:
        os.environ[SILENT] = "1"
        self.show_failed_logs = show_failed_logs
        self.stages: dict[str, int] = {}  # number of jobs per rule, in the data's order
        self.done: Counter[str] = Counter()
        self.running: dict[int, Job] = {}
        self._spent: dict[str, list[float]] = {}  # seconds of the jobs done, per rule
        self._earlier = Earlier()
        self._started = time.monotonic()

    @property
    def total(self) -> int:
        """Number of jobs."""
        return sum(self.stages.values())

    def plan(self, stats: dict[str, int]) -> None:
        """Take in how many jobs there are of each rule."""
        self.stages = {rule: n for rule, n in stats.items() if rule not in ("all", "total")}

    def start(self, said: dict[str, Any]) -> None:
        """Take in a job that begins."""
        of = " ".join(str(value) for value in (said["wildcards"] or {}).values())
        log = Path(str(said["log"][0])) if said["log"] else None
        does = " ".join(str(said["rule_msg"] or said["rule_name"]).split())
        self.running[said["jobid"]] = Job(said["rule_name"], does, of, log)

    def finish(self, number: int) -> Job | None:
        """Take in that a job is done; return it, None for the one that only collects."""
        job = self.running.pop(number, None)
        if job is None or job.rule not in self.stages:
            return None
        self.done[job.rule] += 1
        self._spent.setdefault(job.rule, []).append(job.seconds)
        return job

    def fail(self, said: dict[str, Any]) -> Iterator[str]:
        """Yield the lines that tell a failure: the sentence first."""
        job = self.running.pop(said["jobid"], None)
        log = Path(str(said["log"][0])) if said["log"] else None
        why = why_failed(log) if log else "It has no log."
        of = f" of {job.of}" if job and job.of else ""
        yield f"Failed: {said['rule_name']}{of}: {why}"
        if log and log.is_file() and str(log) not in why:
            yield f"  Its log: {log}"
        if self.show_failed_logs:
            yield from show_logs(said["log"])

    def left(self) -> str:
        """Return the time that is left in words, nothing where no job of these kinds was timed.

        A training that tells its epochs takes what they say. Every other job takes the mean of
        its rule in this run, else in earlier runs. As many run side by side as did so far.
        """
        told = {number: job.takes() for number, job in self.running.items()}
        work, unknown = 0.0, False
        for rule, count in (Counter(self.stages) - self.done).items():
            now = {n: told[n] for n, job in self.running.items() if job.rule == rule}
            seen = [*self._spent.get(rule, ()), *(takes[0] for takes in now.values() if takes)]
            each = fmean(seen) if seen else self._earlier.seconds(rule)
            unknown |= each is None
            each = each or 0.0
            work += each * (count - len(now))
            for number, takes in now.items():
                work += takes[1] if takes else max(0, each - self.running[number].seconds)
        if work < 1:
            return ""
        spent = sum(map(sum, self._spent.values())) + sum(j.seconds for j in self.running.values())
        beside = max(1.0, spent / max(time.monotonic() - self._started, 1e-9))
        return f"; {'more than' if unknown else 'about'} {span(work / beside)} left"


class Lines(logging.Handler):
    """Prints a line for each job that is done or failed."""

    def __init__(self, stream: TextIO, run: Run, quiet: Collection[Quietness]) -> None:
        super().__init__()
        self._stream, self._run = stream, run
        self._shown = not {Quietness.ALL, Quietness.RULES, Quietness.PROGRESS} & set(quiet)

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.told(record):
            print(line, file=self._stream, flush=True)

    def told(self, record: logging.LogRecord) -> Iterator[str]:
        """Yield the lines that a record is worth; failures and warnings whatever is quiet."""
        run, event, said = self._run, event_of(record), record.__dict__
        if event == LogEvent.RUN_INFO:
            run.plan(said["stats"])
            if self._shown:
                counts = ", ".join(f"{n} {rule}" for rule, n in run.stages.items())
                yield f"{run.total} jobs: {counts}{run.left()}"
        elif event == LogEvent.JOB_INFO:
            run.start(said)
        elif event == LogEvent.JOB_FINISHED:
            job = run.finish(said["job_id"])
            if job and self._shown:
                yield (
                    f"{time.strftime('%H:%M:%S')} {run.done.total()} of {run.total}: {job.does}, "
                    f"{span(job.seconds)}{run.left()}"
                )
        elif event == LogEvent.JOB_ERROR:
            yield from run.fail(said)
        elif is_news(record) and (self._shown or record.levelno >= logging.WARNING):
            yield record.getMessage()


class Screen(Lines):
    """Shows on a terminal the stages, what runs, and the time that is left; no line per job."""

    def __init__(self, stream: TextIO, run: Run) -> None:
        from rich.console import Console  # only where somebody looks
        from rich.live import Live

        super().__init__(stream, run, ())
        os.environ["TQDM_DISABLE"] = "1"  # bars of jobs would write over this
        console = Console(file=stream)
        self._live = Live(console=console, refresh_per_second=2, get_renderable=self._picture)

    def emit(self, record: logging.LogRecord) -> None:
        event = event_of(record)
        for line in self.told(record):
            if event not in (LogEvent.RUN_INFO, LogEvent.JOB_FINISHED):
                self._live.console.print(line, markup=False, highlight=False)
        if event == LogEvent.RUN_INFO and not self._live.is_started:
            self._live.start()
        if self._run.done.total() == self._run.total:
            self._live.stop()  # what is told at the end stands below the last picture

    def close(self) -> None:
        """Leave the last picture where it is."""
        self._live.stop()
        super().close()

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        run = self._run
        stages = Table.grid(padding=(0, 2))
        for rule, count in run.stages.items():
            done = run.done[rule]
            busy = any(job.rule == rule for job in run.running.values())
            style = "green" if done == count else "bold" if busy else "dim"
            bar = ProgressBar(total=count, completed=done, width=24)
            stages.add_row(Text(rule, style), bar, Text(f"{done} of {count}", style))
        jobs = Table.grid(padding=(0, 2))
        for job in [*run.running.values()][:8]:
            if job.rule in run.stages:
                jobs.add_row(span(job.seconds), job.does, job.stands())
        total = f"{run.done.total()} of {run.total} jobs{run.left()}"
        return Group(stages, jobs, Text(total, "bold"))
