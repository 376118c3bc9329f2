"""What no study needs: found, shown, and removed if one agrees (`aeflow clean`).

Only what a receipt proves to be made by a step, and what an interrupted job left. Where it is not
known what a study or an overlay needs, nothing is removed.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aeflow.commands.studies import find_study, study_files
from aeflow.core.errors import AeflowError, ConfigError, DataError
from aeflow.core.files import is_left, sha256_file
from aeflow.core.receipts import read_receipt
from aeflow.core.schema import load_yaml
from aeflow.doctor import read_dvc_file
from aeflow.study.cells import PATHS, STEPS, jobs_of, path
from aeflow.study.defaults import CONFIG, DEFAULTS, load_study
from aeflow.study.study import Study

# Written by hand, by a generator or by a run, as overlays of a study.
OVERLAYS = ("*.yaml", "*.yml", "*.json", "config/*.yaml", "config/studies/*.yaml")
PLACES = (Path("data"), Path("results"))
_DOWNLOAD = re.compile(r"\.(?P<archive>[A-Za-z0-9_.-]+)\.zip(?:\..+|-files\.json)")


class Leftover(NamedTuple):
    """Files that go together.

    Attributes:
        why: nothing needs them.
        files: the receipt last, without which nobody would know them for what they are.
    """

    why: str
    files: list[Path]


def leftovers(configs: Sequence[Path]) -> list[Leftover]:
    """Return what may be removed, in the folder of a repository.

    Args:
        configs: overlays of one study more whose files are kept.

    Raises:
        AeflowError: a run is under way, or it cannot be told what is needed or tracked.
    """
    if not DEFAULTS.is_file():
        raise ConfigError("There is no config/ here: go to the folder of the repository.")
    check_no_run()
    studies = _studies(configs)
    here = {file.parent.name for file in study_files()}
    needed = {
        path(study, STEPS[step].receipt, given)
        for study in studies
        for step, given in jobs_of(study)
    }
    tracked = _tracked()
    found = [*_interrupted(), *_downloads(needed), *_states(here, needed), *_made(here, needed)]
    return [left for left in found if not any(map(tracked, left.files))]


def remove(found: Iterable[Leftover]) -> None:
    """Remove files, and folders that are empty without them.

    Raises:
        DataError: a run has begun, or a file cannot be removed.
    """
    check_no_run()
    for file in [file for left in found for file in left.files]:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{file} cannot be removed: {error.strerror}.") from error
        with suppress(OSError):  # not empty
            for folder in file.parents[:-3]:  # data/features and results/S stay
                folder.rmdir()


def check_no_run() -> None:
    """Check that Snakemake works on nothing here; DataError: it does, or was killed."""
    if any(Path(".snakemake/locks").glob("*")):
        raise DataError(
            "A run is under way here: wait for its end. If it was killed: `snakemake --unlock`."
        )


def _studies(configs: Sequence[Path]) -> list[Study]:
    """Return every study that was run here or may be: in results/, in overlays."""
    found = []
    listed = {file for pattern in OVERLAYS for file in Path().glob(pattern)}
    named = {file.resolve() for file in configs}
    alone = [
        [file] for file in sorted(listed) if file.resolve() not in named and _is_overlay(file)
    ]
    for overlays in [[], *([[*configs]] if configs else []), *alone]:
        try:
            found.append(load_study(overlays))
        except AeflowError as error:
            told = " ".join(map(str, overlays)) or str(CONFIG)
            hint = " If it is used with others, name all: `aeflow clean ONE OTHER`."
            raise ConfigError(
                f"What {told} needs is not known, so nothing is removed: {error}"
                f"{hint * (len(overlays) == 1)}"
            ) from error
    for file in study_files():
        try:
            found.append(find_study(file.parent.name))
            list(jobs_of(found[-1]))
        except AeflowError as error:
            raise ConfigError(
                f"What {file} needs is not known, so nothing is removed: {error} Restore it, or "
                f"move {file.parent} away."
            ) from error
    return found


def _is_overlay(file: Path) -> bool:
    """Whether a YAML file has keys of a study; ConfigError: it cannot be read."""
    if file in (DEFAULTS, CONFIG):
        return False
    content = load_yaml(file)
    return isinstance(content, dict) and not Study.model_fields.keys().isdisjoint(content)


def _tracked() -> Callable[[Path], bool]:
    """Return a function that tells whether git or DVC has a file; DataError: nobody can tell."""
    known: set[Path] = set()
    here = Path().resolve()
    if any((folder / ".git").exists() for folder in (here, *here.parents)):
        command = ["git", "ls-files", "-z", "--", *map(str, PLACES)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            told = (getattr(error, "stderr", "") or str(error)).strip()
            raise DataError(
                f"Git cannot say which files it has, so nothing is removed: {told}"
            ) from error
        known |= {Path(name) for name in done.stdout.split("\0") if name}
    # `dvc add data` writes data.dvc, which stands above what it is for.
    written = [*Path().glob("*.dvc"), *(file for place in PLACES for file in place.rglob("*.dvc"))]
    for file in filter(Path.is_file, written):
        outs = read_dvc_file(file)
        known |= {Path(os.path.normpath(file.parent / out.path)) for out in outs}
    return lambda file: not known.isdisjoint([file, *file.parents])


def _interrupted() -> Iterator[Leftover]:
    for place in PLACES:
        for file in sorted(place.rglob(".*")):
            if file.is_file() and is_left(file) and _is_here(file):
                yield Leftover("left by a killed job", [file])


def _downloads(needed: set[Path]) -> Iterator[Leftover]:
    """Yield parts of archives that nobody would go on to fetch."""
    for file in sorted(Path("data/raw").glob(".*")):
        found = _DOWNLOAD.fullmatch(file.name)
        receipt = Path(PATHS["fetched"].format(archive=found["archive"])) if found else None
        if receipt and receipt not in needed and file.is_file() and _is_here(file):
            yield Leftover("part of a download for no study", [file])


def _states(here: set[str], needed: set[Path]) -> Iterator[Leftover]:
    """Yield what interrupted trainings left that no study would go on with."""
    for file, words in _matching("state"):
        trained = Path(PATHS["trained"].format(**words))
        if words["study"] in here and trained not in needed and _is_here(file):
            yield Leftover(f"interrupted, in no variant of {words['study']}", [file])


def _made(here: set[str], needed: set[Path]) -> Iterator[Leftover]:
    """Yield what a receipt proves a step to have made, as it made it."""
    makes: dict[str, list[str]] = {}
    for step in STEPS.values():
        makes.setdefault(step.receipt, []).extend(step.makes)
    for name, outputs in makes.items():
        for receipt, words in _matching(name):
            study = words.get("study")
            if receipt in needed or study not in {None, *here}:
                continue
            named = (Path(PATHS[output].format(**words)) for output in dict.fromkeys(outputs))
            files = [*filter(Path.exists, named), receipt]
            if all(map(_is_here, files)) and _proved(files):
                yield Leftover(
                    "of no study" if study is None else f"in no variant of {study}", files
                )


def _matching(name: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the files of one of `PATHS`, with the words in their paths."""
    words = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(PATHS[name])))
    for file in sorted(Path().glob(re.sub(r"\{\w+\}", "*", PATHS[name]))):
        if found := words.fullmatch(file.as_posix()):
            yield file, found.groupdict()


def _is_here(file: Path) -> bool:
    """Whether a file is no link, and behind none: what is elsewhere may be another's too."""
    return file.resolve() == Path().resolve() / file


def _proved(files: list[Path]) -> bool:
    """Whether a receipt, the last of files, is as written and names the others as they are."""
    try:
        receipt = read_receipt(files[-1])
    except AeflowError:
        return False
    made = ((receipt.made.get(file.as_posix()), file) for file in files[:-1])
    return receipt.sealed and all(was == sha256_file(file) for was, file in made)
