"""Snakemake, imported once for many runs: each is a fork of this process.

Python's start and Snakemake's imports are half of what a dry run costs. The modules of the
repository are not imported here: each run takes its copy's.
"""

import asyncio
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


def _import() -> None:
    for name in IMPORTED:
        import_module(name)
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    async def a_second(self: object) -> None:
        """Ask for the state of SLURM's jobs soon again, not after 2, 12, 22, ... seconds."""
        await asyncio.sleep(0.3)

    RemoteExecutor.sleep = a_second
    gc.freeze()


def _as_asked(arguments: list[str], folder: str, environment: dict[str, str], *told: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = ["snakemake", *arguments]
    for number, name in enumerate(["/dev/null", *told]):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)


if __name__ == "__main__":
    _import()
    from snakemake.cli import main

    if sys.argv[1:]:  # a run in this process
        main()
    for line in sys.stdin:
        if not (child := os.fork()):
            _as_asked(*json.loads(line))
            main()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
