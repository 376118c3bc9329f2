"""Commands in processes of their own, on a disk of a few MiB where wanted."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def on_small_disk(folder: Path, megabytes: int, command: list[str]) -> list[str]:
    """Run a command whose last argument is below `folder`/disk, a file system of a few MiB.

    It is in a mount namespace that ends with the process. Returns the lines told, then the files
    that are left.
    """
    disk = folder / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {disk}"
    if "denied" in (refusal := run(["unshare", "-rm", "sh", "-c", f"{mount} || echo denied"])):
        pytest.skip(f"cannot mount here: {refusal}")
    script = f"{mount} && {' '.join(command)}; find {disk} -type f"
    return run(["unshare", "-rm", "sh", "-c", script]).splitlines()


def run(command: list[str], cwd: Path | None = None, **environment: str) -> str:
    """Return what a command says on stdout and stderr."""
    finished = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.stdout + finished.stderr


def start(command: list[str], **pipes: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, text=True, **pipes)
