"""The demo, and with it a project's folder where there is no clone (`aeflow demo`)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from aeflow.core.errors import DataError
from aeflow.core.files import atomic_path, writing

PACKAGE = Path(__file__).resolve().parents[1]
# What runs and what digests of code are made of: links, so a project never has a code of its own.
CODE = ("Snakefile", "profiles", "scripts", "workflow")
DEMO = Path("config/demo.yaml")


def run_demo(folder: Path | None) -> int:
    """Run the demo's study in a project's folder, made if it is not there; return its status.

    Raises:
        DataError: the folder holds something else, or cannot be written.
    """
    folder = folder or (Path() if is_project(Path()) else Path("aeflow-demo"))
    if not is_project(folder):
        write_project(folder)
    # A rule's `python` is the one that runs this, also where no environment was activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "snakemake", "--configfile", str(DEMO)]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, check=False)
    if done.returncode == 0 and folder != Path():
        print(f"All of it is in {folder}: go there for `aeflow open demo` and `aeflow init`.")
    return done.returncode


def is_project(folder: Path) -> bool:
    """Return whether a study can run in a folder."""
    return all((folder / name).exists() for name in (*CODE, "aeflow", DEMO))


def write_project(folder: Path) -> None:
    """Make a folder in which a study can run: links to the code, and a config/ to edit.

    Of a project whose links lead nowhere, since the package has moved, only these are made again.

    Raises:
        DataError: the folder holds something else, or cannot be written.
    """
    within = PACKAGE / "project"  # of a wheel; in a clone, the files lie beside the package
    source = within if within.is_dir() else PACKAGE.parent
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / "Snakefile").is_symlink():
            raise DataError(
                f"{folder} holds other files and is no project of aeflow: name a new folder, "
                "`aeflow demo FOLDER`."
            )
        # The first link says whose folder it is, the last one that all is there.
        for name in (*CODE, "config", "aeflow"):
            if name == "config":
                _copy_missing(source / name, folder / name)
                continue
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(PACKAGE if name == "aeflow" else source / name)


def _copy_missing(source: Path, target: Path) -> None:
    for file in filter(Path.is_file, source.rglob("*")):
        own = target / file.relative_to(source)
        if not own.exists():
            with atomic_path(own) as part:
                shutil.copyfile(file, part)
