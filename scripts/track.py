"""Hand a study that was run to git and DVC: small files to git, payload to DVC.

Snakemake is asked which files the study has. Nothing is committed to git and nothing is pushed.
Of a figure git gets the file that the report shows: `snakemake FILE` makes the other formats.
What a `.dvcignore` names is left out, and the detectors that were packed of the study go along.
Payload that is absent stays as it was recorded. Where some of a dataset's payload is new and some
is absent, nothing is handed over: results would be shared without what they were made by.
"""

import json
import re
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from pathlib import Path

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.job import script
from aeflow.report.contents import figure_file, figures
from aeflow.study.runs import summary
from aeflow.study.study import read_study

# One `.dvc` per dataset and kind: DVC is slow with many.
PAYLOAD = re.compile(
    r"data/(raw|weights|prepared)/[^/]+|data/features/[^/]+/[^/]+"
    r"|results/[^/]+/(models|galleries)/[^/]+|results/[^/]+/(browse/data|detectors)"
)
RECORDS = Path(".snakemake/metadata")


def track(given: dict[str, list[str]]) -> None:
    """Update the `.dvc` files of the study, then the index of git.

    `--configfile` is what was given to snakemake.
    """
    overlays = given.pop("configfile", [])
    if given:
        raise ConfigError(f"unknown: --{' --'.join(given)} (only --configfile is known).")
    files = [row[0] for row in summary([*map(Path, overlays)])]
    (folder,) = {Path(*Path(name).parts[:2]) for name in files if name.startswith("results/")}
    # Neither these nor the study's own file is made by a rule: `aeflow pack` does, and a run
    # before its first job.
    files += [file.as_posix() for file in folder.glob("detectors/*")]
    small = shown([name for name in files if not PAYLOAD.match(name)], folder / "study.json")
    payload = to_dvc(files)
    track_payload(payload)
    # With whole results, not with what a failed run left of others.
    if all(Path(name).exists() for name in small):
        small.append((folder / "study.json").as_posix())
    track_small([*small, *(f"{name}.dvc" for name in payload), *records(files)])


def run(module: str, *arguments: str, given: str | None = None, none: int = 0) -> str:
    """Return what a command, or the `python -m` of a package, prints.

    Args:
        none: its exit status where it found nothing.

    Raises:
        DataError: it failed; with what it said.
    """
    command = [module] if module == "git" else [sys.executable, "-m", module]
    done = subprocess.run(
        [*command, *arguments], input=given, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, none):
        said = done.stderr.strip() or done.stdout.strip()
        raise DataError(f"{module} {arguments[0]} failed: {said}")
    return done.stdout


def shown(files: list[str], known: Path) -> list[str]:
    """Return the files of a study without formats of figures that its report does not show."""
    if not known.exists():
        return files
    study = read_study(known)
    kept = {figure_file(study, *figure).as_posix() for figure in figures(study)}
    return [name for name in files if "/figures/" not in name or name in kept]


def to_dvc(files: list[str]) -> dict[str, list[str]]:
    """Return what a `.dvc` is for -> the files in it, without those that a .dvcignore names."""
    payload = {name: found[0] for name in files if (found := PAYLOAD.match(name))}
    ignored = _ignored(payload)
    kept: dict[str, list[str]] = {}
    for name, recorded in payload.items():
        if name not in ignored:
            kept.setdefault(recorded, []).append(name)
    return kept


def track_payload(payload: dict[str, list[str]]) -> None:
    """Record what is new or changed.

    Args:
        payload: what a `.dvc` is for -> the study's files in it.

    Raises:
        DataError: of a payload with changes, something is absent.
    """
    found = json.loads(run("dvc", "data", "status", "--granular", "--json"))
    states: dict[str, list[str]] = found.get("uncommitted", {})
    new: list[str] = []
    changed: list[str] = []
    for name, files in payload.items():
        if Path(f"{name}.dvc").exists():
            gone = _below(name, [*states.get("deleted", []), *states.get("unknown", [])])
            other = _below(name, [*states.get("modified", []), *states.get("added", [])])
            # A folder that a job made anew is whole (one without news may be pulled in part), and
            # a .dvcignore means what it says: such files are no longer of the study.
            made = tuple(
                f"{file}/" for file in files if Path(file).is_dir() and _below(file, other)
            )
            ignored = _ignored(gone)
            left = [file for file in gone if file in ignored or file.startswith(made)]
            absent = sorted({*gone} - {*left})
            other += left
        else:
            absent = [file for file in files if not Path(file).exists()]
            other = [file for file in files if Path(file).exists()]
        if other and absent:
            raise DataError(_incomplete(name, other, absent))
        if other:
            (changed if Path(f"{name}.dvc").exists() else new).append(name)
    if new:
        run("dvc", "add", "--quiet", *new)
    if changed:
        run("dvc", "commit", "--quiet", "--force", *changed)
    print(f"DVC: {len(new)} new, {len(changed)} changed, {len(payload)} in all")


def _ignored(names: Iterable[str]) -> set[str]:
    """Return which of some files a .dvcignore names."""
    asked = "\n".join(names)
    return set(run("dvc", "check-ignore", "--stdin", given=asked, none=1).splitlines())


def _incomplete(name: str, other: list[str], absent: list[str]) -> str:
    """Return what is wrong with a payload of which only a part is here, and what to do."""
    return (
        f"{name} is only partly here (new or changed: {_listed(other)}; absent: "
        f"{_listed(absent)}). Nothing was handed over: run snakemake until it has nothing to do, "
        "`dvc pull` each file that is absent still by its name, and run this again; or drop the "
        "change: `git checkout HEAD . && dvc checkout`."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")


def _below(name: str, paths: Iterable[str]) -> list[str]:
    """Return those of DVC's paths that are a payload or in it, but not the folder's own entry."""
    return [p for p in paths if p == name or (p.startswith(f"{name}/") and p != f"{name}/")]


def records(files: list[str]) -> list[str]:
    """Return Snakemake's records of these files: a clone without them would run all again.

    Of every format of a figure: Snakemake wants all of a job's.

    Not of absent ones: payload that was never pulled has the records it had, and the record of a
    failed job would be shared as if the old output were of the new settings.
    """
    known = {name for name in files if Path(name).exists()}
    return [
        path.as_posix()
        for path in sorted(RECORDS.rglob("*"))
        if path.is_file() and _recorded(path) in known
    ]


def _recorded(path: Path) -> str | None:
    """Return the file that a record is of: its name is base64, in folders `@...` where long."""
    parts = [part.lstrip("@") for part in path.relative_to(RECORDS).parts]
    try:
        return urlsafe_b64decode("".join(parts)).decode()
    except ValueError:  # not a record: what a file manager or a network's file system leaves
        return None


def track_small(names: list[str]) -> None:
    """Add files to git's index; they are ignored until then."""
    here = [name for name in names if Path(name).exists()]
    run("git", "add", "--force", "--pathspec-from-file=-", given="\n".join(here))
    print(f"git: {len(here)} files; `git status` shows what is to be committed")


if __name__ == "__main__":
    script(track)
