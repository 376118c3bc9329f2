"""The studies that are here: found by name, listed, looked at (`aeflow ls`, `aeflow open`)."""

import sys
import webbrowser
from contextlib import suppress
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

from aeflow.core.errors import AeflowError, ConfigError, DataError
from aeflow.core.text import megabytes, one_line
from aeflow.study.cells import PATHS, path, score_tables
from aeflow.study.study import Study, read_study


def study_files() -> list[Path]:
    """Return the study.json of every study that is here."""
    return sorted(Path().glob(PATHS["study"].format(study="*")))


def find_study(name: str) -> Study:
    """Return a study by its name or by its folder in results/.

    Raises:
        ConfigError: there is none, or the folder is another study's or another repository's.
        DataError: its study.json cannot be read.
    """
    place = Path(name)
    own = Path(PATHS["study"].format(study=place.name))  # before a folder of images of that name
    found = next((file for file in (own, place / "study.json") if file.is_file()), None)
    if found is None:
        known = [file.parent.name for file in study_files()]
        close = get_close_matches(place.name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"here are {', '.join(known) or 'none'}"
        raise ConfigError(f"There is no study {place.name} in results/ ({hint}).")
    study = read_study(found)
    if found.parent.resolve() != path(study, "study", {}).parent.resolve():
        raise ConfigError(
            f"{found} is of the study {study.study}, whose files are looked for in "
            f"results/{study.study} of this folder: go to its repository, or name the folder so."
        )
    return study


def list_studies() -> int:
    """Print a line for each study and dataset; 1 if a study cannot be read."""
    from tabulate import tabulate

    from aeflow.report.headline import highest

    files = study_files()
    if not files:
        print("There are no studies in results/ yet: `snakemake --cores all` makes one.")
    lines, status = [], 0
    for file in sorted(files, key=_when, reverse=True):
        name = file.parent.name
        head = [name, datetime.fromtimestamp(_when(file)).strftime("%Y-%m-%d %H:%M")]
        head.append(megabytes(sum(map(_size, file.parent.rglob("*")))))
        try:
            study = find_study(name)
            state = _state(study)
            best = {entry.name: highest(study, entry.name) for entry in study.datasets}
        except AeflowError as error:
            print(f"aeflow: {name}: {one_line(str(error))}", file=sys.stderr)
            lines.append([*head, "cannot be read", "", ""])
            status = 1
            continue
        for entry in study.datasets:
            lines.append([*head, state, entry.name, best[entry.name]])
            head, state = [""] * len(head), ""
    if lines:
        heads = ["study", "when", "size", "state", "dataset", "highest AUROC in %"]
        aligned = ["left", "left", "right", "left", "left", "left"]
        print(tabulate(lines, heads, disable_numparse=True, colalign=aligned))
    return status


def _size(file: Path) -> int:
    with suppress(OSError):  # a running job's, gone meanwhile
        return file.lstat().st_size
    return 0


def _when(file: Path) -> float:
    """Return when a study's report was made, or else when its last run began."""
    report = file.with_name("report.html")
    return (report if report.exists() else file).stat().st_mtime


def _state(study: Study) -> str:
    cells = score_tables(study)
    absent = sum(not path(study, "metrics", cell).exists() for cell in cells)
    if absent:
        return f"lacks {absent} of {len(cells)} cells"
    return "complete" if path(study, "report", {}).exists() else "lacks the report"


def open_report(name: str | None) -> None:
    """Open a study's report, or the newest, in the browser, and print where it is.

    Raises:
        DataError: there is no report, or no browser.
    """
    if name is None:
        found = sorted(
            (file.with_name("report.html") for file in study_files()),
            key=lambda file: file.stat().st_mtime if file.exists() else 0,
        )
        report = found[-1] if found else Path(PATHS["report"].format(study="*"))
    else:
        report = path(find_study(name), "report", {})
    if not report.is_file():
        part = Path(PATHS["incomplete"].format(study=report.parent.name), report.name)
        known = f"; of what is there: {part}" if part.is_file() else ""
        raise DataError(f"There is no {report} yet: a complete run makes it{known}.")
    print(report)
    if not webbrowser.open(report.absolute().as_uri()):
        raise DataError(f"No browser was found: open {report} in one.")
