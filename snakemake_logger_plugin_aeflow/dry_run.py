"""What a dry run would do: a table of a screenful, however many jobs there are."""

import logging
from collections import Counter
from typing import TextIO

from snakemake_interface_logger_plugins.common import LogEvent
from tabulate import tabulate

from aeflow.study.runs import why
from snakemake_logger_plugin_aeflow.run import event_of, is_news

_MOST = 4  # names of a kind that are told


class DryRun(logging.Handler):
    """Gathers the jobs of a dry run, and prints the table at its end."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._counts: dict[str, int] = {}
        self._why: dict[str, Counter[str]] = {}
        self._of: dict[str, dict[str, dict[str, None]]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        event, said = event_of(record), record.__dict__
        if event == LogEvent.RUN_INFO:
            self._counts = {rule: n for rule, n in said["stats"].items() if rule != "total"}
        elif event == LogEvent.JOB_INFO:
            rule = said["rule_name"]
            self._why.setdefault(rule, Counter())[why(said["reason"]) or "always"] += 1
            of = self._of.setdefault(rule, {})
            for name, value in (said["wildcards"] or {}).items():
                of.setdefault(name, {})[str(value)] = None
        elif is_news(record):
            print(record.getMessage(), file=self._stream)

    def close(self) -> None:
        """Print the table, if there was anything to do."""
        rows = [
            (rule, count, _told(self._why.get(rule, Counter())), _named(self._of.get(rule, {})))
            for rule, count in self._counts.items()
            if rule != "all"
        ]
        self._counts = {}
        if rows:
            headers = ("step", "jobs", "why", "of")
            print(tabulate(rows, headers, maxcolwidths=[None, None, 34, 60]), file=self._stream)
            total = sum(row[1] for row in rows)
            print(f"{total} jobs. Nothing was run; -n -p shows each command.", file=self._stream)
        super().close()


def _told(whys: Counter[str]) -> str:
    if len(whys) == 1:
        return next(iter(whys))
    return ", ".join(f"{why}: {count}" for why, count in whys.most_common())


def _named(of: dict[str, dict[str, None]]) -> str:
    told = []
    for name, values in of.items():
        shown = ", ".join(list(values)[:_MOST])
        more = f" and {len(values) - _MOST} more" if len(values) > _MOST else ""
        told.append(f"{name} {shown}{more}")
    return "; ".join(told)
