"""Copies of the repository, in which a user's commands run."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.workflow import warm_snakemake

ROOT = Path(__file__).parents[2]
# The same way through every rule in a fraction of the demo's time.
TINY = """
study: tiny
datasets: [{name: demo_textures}]
data: {image_size: 64, val_fraction: 0.2}
encoder: {name: efficientnet_lite0, stages: 3}
flow: {steps: 2, standardise: channel}
training: {epochs: 2, batch_size: 16, lr: 0.002, weight_decay: 0.0, threads: 1}
variants:
  - {name: aeflow}
  - {name: beta_half, settings: {score: {beta: 0.5}}}
  - {name: gradient, method: gradient}
  - {name: ensemble, method: fusion, members: [aeflow]}
  - {name: both, method: fusion, members: [aeflow, gradient]}
ablations:
  - {name: beta, of: aeflow, key: score.beta, values: [0.0, 0.9, 1.0]}
  - {name: correct, of: aeflow, key: score.correct, values: [none, complexity]}
seeds: [0, 1]
evaluation: {bootstrap_replicates: 50}
"""
CELL = "demo_textures/brick/aeflow/seed0"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Author"), ("EMAIL", "author@example.org"))
}


# Recorded checksums are those of the real archives; the rest is what a repository that shares a
# study has, and the tests share their own.
NOT_COPIED = (
    *("config/checksums/", "data/", "results/", "published/", ".snakemake/"),
    *(".dvc/config", "dvc.lock"),
)


def listed(*kinds: str) -> list[str]:
    """Return the files of these kinds that git knows or would know."""
    command = ["git", "ls-files", *kinds, "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [*filter(None, done.stdout.split("\0"))]


def copy_repository(target: Path) -> Path:
    """Copy what git knows or would know: a fresh clone with the changes under test."""
    for name in listed("--cached", "--others"):
        if (ROOT / name).is_file() and not name.startswith(NOT_COPIED):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for folder in ("results", ".dvc"):
        (target / folder).mkdir(exist_ok=True)
    (target / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (target / "tiny.yaml").write_text(TINY)
    return target


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def jobs_in(output: str) -> dict[str, int]:
    """Return the number of jobs per rule that a dry run's output lists."""
    jobs = re.findall(r"^(\w+_\w+) +(\d+) +\S", output, re.MULTILINE)
    return {rule: int(count) for rule, count in jobs}


class Repository:
    """A copy of the repository in which Snakemake runs.

    Attributes:
        overlay: the study, unless another is given.
    """

    overlay = "tiny.yaml"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self) -> dict[str, str]:
        """Return an environment in which `aeflow` is this copy's and `python` the tests'."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.folder)}

    def command(self, *arguments: str, overlay: str | None = None) -> list[str]:
        return ["snakemake", "--configfile", overlay or self.overlay, "--cores", "2", *arguments]

    def call(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; with `check` its failure is the test's."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment(), "GIT_CONFIG_GLOBAL": "/dev/null", **IDENTITY},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{command} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def snakemake(
        self, *arguments: str, overlay: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake; with `check` its failure is the test's."""
        asked = self.command(*arguments, overlay=overlay)[1:]
        done = warm_snakemake.run(asked, self.folder, self.environment())
        if check and done.returncode:
            pytest.fail(f"snakemake {arguments} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def plan(self, *arguments: str, overlay: str | None = None) -> dict[str, int]:
        """Return the number of jobs per rule that a dry run lists; empty: nothing to be done."""
        return jobs_in(self.snakemake("--dry-run", *arguments, overlay=overlay).stdout)

    def results(self, study: str = "tiny") -> Path:
        return self.folder / "results" / study


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that is made once, whichever of pytest's processes wants it first."""
    place = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # of all processes
    folder = place / f"once-{name}"
    with FileLock(place / f"{name}.lock"):
        if not (place / f"{name}.made").exists():
            folder.mkdir()
            make(folder)
            (place / f"{name}.made").touch()
    return folder


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy in which nothing was run. Not to be changed."""
    return Repository(copy_repository(tmp_path_factory.mktemp("clone")))


@pytest.fixture(scope="session")
def demo() -> Repository:
    """The demo study as `make demo` made it here. Not to be changed."""
    if not (ROOT / "results/demo/report.html").exists():
        pytest.skip("needs `make demo`, which .ci/run calls first")
    return Repository(ROOT)


@pytest.fixture(scope="session")
def finished_tiny(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The tiny study, run from nothing. Not to be changed."""

    def run(folder: Path) -> None:
        said = Repository(copy_repository(folder)).snakemake().stderr
        folder.with_name("tiny.log").write_text(said)  # beside it: copies are handed to git

    return Repository(once(tmp_path_factory, "tiny", run))


@pytest.fixture
def tiny(finished_tiny: Repository, tmp_path: Path) -> Repository:
    """A copy of the finished tiny study, to be changed."""
    shutil.copytree(finished_tiny.folder, tmp_path, dirs_exist_ok=True)
    return Repository(tmp_path)


@pytest.fixture
def edit(tiny: Repository) -> Callable[[str, str, str], None]:
    """Replace a text in a file of `tiny`; the text must be there."""

    def replace(name: str, old: str, new: str) -> None:
        path = tiny.folder / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return replace


class Shared(Repository):
    """A working copy of the shared study."""

    def track(self, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.call("python", "scripts/track.py", "--configfile", self.overlay, check=check)

    def share(self, store: Path) -> None:
        """Record what is here, and push it."""
        self.record()
        self.call("dvc", "remote", "add", "--default", "store", str(store))
        self.call("dvc", "remote", "modify", "store", "verify", "true")
        self.commit("A remote")
        self.call("dvc", "push", "--quiet")

    def record(self) -> None:
        """Track and commit what is here, as the first to do so."""
        self.call("git", "init", "--quiet", "--initial-branch=main")
        self.commit("The study's configuration")
        self.track()
        self.commit("The study's results")

    def commit(self, message: str) -> None:
        self.call("git", "add", "--all")
        self.call("git", "commit", "--quiet", "--message", message)

    def status(self) -> str:
        """Return what git sees to be committed."""
        return self.call("git", "status", "--porcelain").stdout

    def edit(self, old: str, new: str, name: str = "tiny.yaml") -> None:
        path = self.folder / name
        content = path.read_text()
        assert old in content
        before = path.stat().st_mtime
        path.write_text(content.replace(old, new, 1))
        # Nobody edits within the second of a checkout, and git compares sizes and whole seconds.
        os.utime(path, (before + 2, before + 2))


@pytest.fixture(scope="session")
def author(finished_tiny: Repository, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """The folder of who ran the study, tracked, committed and pushed. Not to be changed."""

    def share(folder: Path) -> None:
        shutil.copytree(finished_tiny.folder, folder, dirs_exist_ok=True)
        Shared(folder).share(folder.with_name("store"))

    return Shared(once(tmp_path_factory, "author", share))


@pytest.fixture
def copy(author: Shared, tmp_path: Path) -> Shared:
    """A fresh clone of the author's, without any payload."""
    author.call("git", "clone", "--quiet", str(author.folder), str(tmp_path / "copy"))
    return Shared(tmp_path / "copy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each of two processes, which get a half, begin with long runs.

    At the end there is then something short to take over. The clusters are of one process.
    """
    files = list(dict.fromkeys(item.path for item in items if "workflow" in item.nodeid))
    clusters = [file for file in files if file.parent.name == "slurm"]
    others = [file for file in files if file not in clusters]
    first, second = ({*clusters, *others[::2]}, {*others[1::2]})
    long = [[item for item in items if item.path in own] for own in (first, second)]
    short = [item for item in items if item.path not in first | second]
    half = max(0, len(items) // 2 - len(long[0]))
    items[:] = [*long[0], *short[:half], *long[1], *short[half:]]
