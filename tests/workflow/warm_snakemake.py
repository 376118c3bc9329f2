"""Snakemake, imported once for many runs: each is a fork of this process.

Python's start and Snakemake's imports are half of what a dry run costs. The modules of the
repository are not imported here: each run takes its copy's.
"""

import atexit
import gc
import json
import os
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

# All that a dry run imports and is not the repository's.
IMPORTED = [
    *("snakemake.cli", "snakemake.report.html_reporter", "snakemake_executor_plugin_slurm"),
    *("jinja2", "pydantic", "requests", "smart_open"),
]


@cache
def _program() -> subprocess.Popen[str]:
    """Start the process that is forked; it ends with this one."""
    program = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(program.communicate)
    return program


def run(
    arguments: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `snakemake` with arguments in a folder; return its status and what it said."""
    program = _program()
    assert program.stdin
    assert program.stdout
    with TemporaryDirectory() as place:
        told = [Path(place, name) for name in ("stdout", "stderr")]
        asked = [arguments, str(folder), environment, *map(str, told)]
        program.stdin.write(json.dumps(asked) + "\n")
        program.stdin.flush()
        status = int(program.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, *(each.read_text() for each in told))


def _as_asked(
    arguments: list[str], folder: str, environment: dict[str, str], *told: str
) -> NoReturn:
    from snakemake.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = ["snakemake", *arguments]
    for number, name in enumerate(["/dev/null", *told]):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    sys.exit(main())


def _serve() -> None:
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    for line in sys.stdin:
        if not (child := os.fork()):
            _as_asked(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
