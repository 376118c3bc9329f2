"""What is missing of a study after a run with failures, and why."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.display.table import DisplayTable, plain
from aeflow.questions.results import RESULT_COLUMNS, RUN, results_table

# The last line of a traceback, with or without the module of the error.
_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w+): (.+)$")
NOT_RUN = "Not run."


def describe(
    failures: dict[str, list[dict[str, Any]]],
) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Return the failed steps and the missing cells, each with its `reason`.

    Args:
        failures: `steps`, the failed jobs: rule, of (its wildcards), log; and `cells`, the
            identity of each missing cell with the numbers of the `steps` that it waits for.
    """
    steps = [step | {"reason": why_failed(Path(step["log"]))} for step in failures["steps"]]
    cells = [
        cell
        | {"reason": " ".join(dict.fromkeys(steps[n]["reason"] for n in cell["steps"])) or NOT_RUN}
        for cell in failures["cells"]
    ]
    return steps, cells


def why_failed(log: Path) -> str:
    """Return the sentence that ended a job, from its log: the last line of the traceback."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # A recipe has more lines after the error's.
    for line in reversed(lines):
        error = _ERROR.match(line)
        if error:
            return error[2]
    return f"Ended without a sentence, killed perhaps (log: {log})."


def failed_results(runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the results table with an empty row for each missing cell, and a column `reason`.

    Args:
        runs: of each cell the contents of its metrics file, or its identity and `reason`.
    """
    empty = dict.fromkeys(RESULT_COLUMNS) | {"intervals": {}}
    table = results_table([empty | run if "reason" in run else run for run in runs])
    return table.assign(reason=[run.get("reason", "") for run in runs])


def failed_tables(
    steps: Sequence[dict[str, str]], missing: Sequence[dict[str, Any]]
) -> list[tuple[str, DisplayTable]]:
    """Return (heading, table) pairs: the jobs that failed, and the cells without a result."""
    jobs = pd.DataFrame(steps, columns=["rule", "of", "reason"])
    jobs.columns = pd.Index(["Rule", "Of", "Why"])
    cells = pd.DataFrame(missing, columns=[*RUN, "reason"]).astype(str)
    row = ["dataset", "category", "variant", "reason"]
    cells = cells.groupby(row, sort=False)["seed"].agg(", ".join).reset_index()
    cells = cells[[*RUN, "reason"]]
    cells.columns = pd.Index(["Dataset", "Category", "Variant", "Seeds", "Why"])
    return [("Jobs that failed", plain(jobs)), ("Cells without a result", plain(cells))]
