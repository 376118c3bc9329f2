"""What Snakemake says of its jobs, and what earlier runs left: their times and their files."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from aeflow.core.errors import DataError
from aeflow.study.cells import PATHS, STEPS, Given

# To somebody who waits for results -> in Snakemake's sentence on a job, in `--summary` of a file.
_WHY = {
    "forced": ("Forced execution", None),
    "not there yet": ("Missing output files", "missing"),
    "broken off": ("Incomplete output files", None),
    "an input has changed": ("Updated input files", "updated input files"),
    "reads other files": ("Set of input files has changed", "set of input files changed"),
    "code has changed": ("Code has changed", "rule implementation changed"),
    "settings or code have changed": ("Params have changed", "params changed"),
    "what it reads is made again": ("Input files updated by another job", "ok"),
}
# What differs in these alone is alike: it takes about as long, and as much space.
_ALIKE = ("study", "category", "seed")


def why(said: str) -> str | None:
    """Return the first reason of a job that has one of its own, None: Snakemake tells none."""
    known = _WHY.items()
    return next((told for told, (job, file) in known if job in said or said == file), None)


def summary(configs: Sequence[Path]) -> list[list[str]]:
    """Return the rows of `snakemake --summary`, one for each file that a study is to have.

    Raises:
        DataError: it cannot say.
    """
    overlay = ["--configfile", *map(str, configs)] if configs else []
    command = [sys.executable, "-m", "snakemake", "--summary", *overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise DataError(f"snakemake cannot plan this: {said}")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) > 1 and row[0] != "output_file"]


def benchmark(step: str) -> str:
    """Return the pattern of the benchmarks of a step's jobs: they are called as its receipts."""
    receipt = PATHS[STEPS[step].receipt]
    folder = "results" if receipt.startswith("data/") else "results/{study}"
    return f"{folder}/benchmarks/{step}/{receipt.split('/', 3)[3].removesuffix('json')}tsv"


class Earlier:
    """Means over what earlier runs of any study left here; each is looked for once."""

    def __init__(self) -> None:
        self._means: dict[str, float | None] = {}

    def seconds(self, rule: str, given: Given | None = None) -> float | None:
        """Return how long the jobs of a rule took, None: none is known.

        Args:
            given: the words of a job: those that are like it. None: all of the rule.
        """
        pattern = f"results/*/benchmarks/{rule}{'' if rule.startswith('build_') else '/*'}.tsv"
        return self._mean(benchmark(rule) if rule in STEPS else pattern, given, _seconds)

    def size(self, name: str, given: Given) -> float | None:
        """Return how many bytes one of `PATHS` has in jobs like this, None: there is none."""
        return self._mean(PATHS[name], given, lambda file: file.stat().st_size)

    def _mean(
        self, pattern: str, given: Given | None, read: Callable[[Path], float | None]
    ) -> float | None:
        pattern = pattern.format_map(_Words({**(given or {}), **dict.fromkeys(_ALIKE, "*")}))
        if pattern not in self._means:
            found = [value for value in map(read, Path().glob(pattern)) if value is not None]
            self._means[pattern] = fmean(found) if found else None
        return self._means[pattern]


class _Words(dict[str, str]):
    def __missing__(self, word: str) -> str:
        return "*"


def _seconds(benchmark: Path) -> float | None:
    """Return the seconds in a benchmark of Snakemake's, None if there are none."""
    try:
        return float(benchmark.read_text(encoding="utf-8").splitlines()[1].split("\t")[0])
    except (OSError, ValueError, IndexError):
        return None
