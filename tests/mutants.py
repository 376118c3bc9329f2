"""One-line faults that would change results without a word: does each turn a test red?

`python tests/mutants.py` tries all of them on a copy of the repository and writes the table
docs/mutants.md; `python tests/mutants.py NAME ...` tries only these and writes nothing.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs/mutants.md"
PACKAGES = ("aeflow", "pytest", "numpy", "pandas", "torch")


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        name: of it, in a few words.
        file: where it is.
        old: the sound code, once in the file and on one line.
        new: the faulty code.
        tests: below tests/unit, what should notice it: files, or tests of one.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: the first test that turned red, None if it survived."""

    red: str | None
    seconds: float


MUTANTS = (
)


def run_tests(folder: Path, *tests: str) -> tuple[int, str]:
    """Run tests below tests/unit of a copy until the first is red; return status and output."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(f"tests/unit/{test}" for test in tests)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def try_mutant(mutant: Mutant, folder: Path) -> Verdict:
    """Put a fault into a copy, run its tests, and take it out.

    Raises:
        SystemExit: the code is not there once, or the tests could not be run.
    """
    path, whole = folder / mutant.file, folder / "whole.py"
    text = path.read_text()
    if text.count(mutant.old) != 1:
        sys.exit(f"{mutant.name}: `{mutant.old}` is {text.count(mutant.old)} times in {mutant.file}.")
    path.rename(whole)  # and back: with its time, by which Python knows its compiled form
    path.write_text(text.replace(mutant.old, mutant.new))
    started = time.monotonic()
    status, output = run_tests(folder, *mutant.tests.split())
    seconds = time.monotonic() - started
    whole.replace(path)
    red = [line.split()[1] for line in output.splitlines() if line.startswith(("FAILED", "ERROR "))]
    if status not in (0, 1):
        sys.exit(f"{mutant.name}: the tests do not run:\n{output}")
    return Verdict(red[0].removeprefix("tests/unit/") if status else None, seconds)
