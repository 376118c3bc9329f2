"""A SLURM of the tests' own on this machine, and the repository's workflow on it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.workflow import warm_snakemake
from tests.workflow.conftest import CELL, TINY, Repository

SCRIPTS = Path(__file__).parent
# More epochs than are over before the first one's state is noticed and the training is held.
LONG = TINY.replace("study: tiny", "study: long").replace("epochs: 2", "epochs: 20")
LONG = LONG.replace("[{name: demo_textures}]", "[{name: demo_textures, categories: [brick]}]")
LONG = (
    LONG.partition("variants:")[0]
    + """\
variants: [{name: aeflow}, {name: gradient, method: gradient}]
ablations: []
seeds: [0]
evaluation: {bootstrap_replicates: 50}
"""
)
TRAINED = f"results/long/models/{CELL}.safetensors"
LOG = f"results/long/logs/train_model/{CELL}.log"
PATIENCE = 600  # seconds, far more than anything takes on a busy machine


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Look until something has happened; the test fails where it never does."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"waited {PATIENCE} s: {what}"
        time.sleep(0.05)


class PrivateSlurm:
    """Two nodes of 4 CPUs and 2 stand-in GPUs each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:
        command = [str(SCRIPTS / "up.sh"), str(self.folder)]
        settings = os.environ | {"NODES": "2"}
        done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
        if done.returncode == 77:
            pytest.skip(f"no tests on SLURM: {done.stderr.strip()}")
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        subprocess.run([str(SCRIPTS / "down.sh"), str(self.folder)], check=True)

    def environment(self) -> dict[str, str]:
        """Return what `env.sh` of its folder sets."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin"
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """Return what one of SLURM's programs prints."""
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def field(self, job: str, field: str) -> str:
        """Return a field of squeue's format of a job: %T is its state, %N its nodes."""
        return self.run("squeue", "--noheader", "--states=all", "-j", job, f"--format={field}")

    def start_now(self, job: str) -> None:
        """Let a requeued job start without SLURM's two minutes of patience."""
        wait_until(lambda: self.field(job, "%T") == "PENDING", f"job {job} is requeued")
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def processes(self) -> Iterator[tuple[int, str, str]]:
        """Yield number, name and environment of each process that works for this SLURM."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment = (process / "environ").read_text()
                if f"SLURM_CONF={self.folder}/" in environment:
                    yield int(process.name), (process / "comm").read_text().strip(), environment

    def signal_tasks(self, job: str, number: signal.Signals) -> None:
        """Send a signal to the programs of a job, unknown to SLURM."""
        for process, name, environment in self.processes():
            if name != "slurmstepd" and f"SLURM_JOB_ID={job}\0" in environment:
                with suppress(ProcessLookupError):
                    os.kill(process, number)

    def lose_node(self, node: str) -> None:
        """Kill all processes of a node at once, as when its power fails; no other is at work."""
        os.kill(int((self.folder / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
        wardens, tasks = [], []
        for process, name, environment in self.processes():
            if name == "slurmstepd":
                wardens.append(process)
            elif f"SLURMD_NODENAME={node}\0" in environment:
                tasks.append(process)
        # Those first that would tell the controller of the others' end.
        for process in wardens + tasks:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        # What the controller finds by itself after SlurmdTimeout.
        self.run("scontrol", "update", f"NodeName={node}", "State=down", "Reason=lost")

    def lives(self, node: str) -> bool:
        pid = (self.folder / f"slurmd-{node}.pid").read_text().strip()
        with suppress(OSError):
            return bool(Path(f"/proc/{pid}/cmdline").read_text())  # of a zombie it is empty
        return False

    def restore_nodes(self) -> None:
        """Start what was killed, undrain what was drained, and wait until all are idle."""
        self.run("scancel", "--me")
        for node in ("n1", "n2"):
            if not self.lives(node):
                self.run("slurmd", "-N", node)
            with suppress(subprocess.CalledProcessError):  # it was not drained
                self.run("scontrol", "update", f"NodeName={node}", "State=resume")
        nodes = ["sinfo", "--noheader", "--Node", "--partition=batch", "--format=%T"]
        wait_until(lambda: self.run(*nodes) == "idle\nidle", "both nodes are idle")


class OnSlurm(Repository):
    """A copy of the repository whose jobs go to a private SLURM."""

    run: subprocess.Popen[bytes] | None = None

    def __init__(self, folder: Path, slurm: PrivateSlurm) -> None:
        super().__init__(folder)
        self.slurm = slurm

    def environment(self) -> dict[str, str]:
        ours = self.slurm.environment()
        path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
        return {**ours, "PATH": path, "PYTHONPATH": str(self.folder)}

    def command(self, *arguments: str, overlay: str | None = None) -> list[str]:
        flags = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"]
        return ["snakemake", *arguments, "--configfile", overlay or self.overlay, *flags]

    def jobs(self, *states: str) -> dict[str, str]:
        """Return comment -> number of this copy's jobs in these states; of all without a state.

        Snakemake's comment is the rule and its wildcards.
        """
        states_option = f"--states={','.join(states) or 'all'}"
        listed = self.slurm.run("squeue", "--noheader", states_option, "--format=%i|%Z|%k")
        jobs = [line.split("|") for line in listed.splitlines()]
        return {name: number for number, place, name in jobs if place == str(self.folder)}

    def start(self, *arguments: str, overlay: str) -> None:
        """Start Snakemake; what it says goes to the file `said`."""
        command = self.command(*arguments, overlay=overlay)
        with (self.folder / "said").open("wb") as said:
            self.run = subprocess.Popen(
                [sys.executable, warm_snakemake.__file__, *command[1:]],
                cwd=self.folder,
                env=self.environment(),
                stdout=said,
                stderr=said,
                start_new_session=True,
                # Whoever runs the tests in the background lets them ignore Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to Snakemake and what it has started here; wait, return its status."""
        if self.run is None:
            return 0
        with suppress(ProcessLookupError):
            os.killpg(self.run.pid, number)
        return self.run.wait(PATIENCE)

    def wait_until(self, happened: Callable[[], object], what: str) -> None:
        """Wait for something that happens while Snakemake runs."""
        assert self.run
        run = self.run
        wait_until(lambda: happened() or run.poll() is not None, what)
        assert happened(), f"Snakemake ended, and not: {what}\n{self.said()}"

    def finishes(self) -> None:
        """Wait for Snakemake's end, which has to be a good one."""
        assert self.run
        assert self.run.wait(PATIENCE) == 0, self.said()

    def said(self) -> str:
        return (self.folder / "said").read_text()


class Shadowed(OnSlurm):
    """The same with programs of a folder instead of SLURM's of the same names."""

    def __init__(self, folder: Path, slurm: PrivateSlurm, programs: Path) -> None:
        super().__init__(folder, slurm)
        self.programs = programs

    def environment(self) -> dict[str, str]:
        ours = super().environment()
        return {**ours, "PATH": f"{self.programs}{os.pathsep}{ours['PATH']}"}
