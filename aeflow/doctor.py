"""Whether configuration, payload and results of a study still belong together (`aeflow doctor`).

Independent of Snakemake's records and of DVC: every receipt is compared with the configuration,
with the files that it names and with the receipts of what it was made from; metrics are computed
again. What is absent is not judged.
"""

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from aeflow.core.errors import AeflowError, ConfigError, DataError
from aeflow.core.files import sha256_file
from aeflow.core.receipts import Receipt, differences, read_receipt
from aeflow.core.schema import load_yaml, validate
from aeflow.core.text import one_line
from aeflow.judging.evaluation import evaluate
from aeflow.study.asked import JudgeAsked
from aeflow.study.cells import (
    RECEIPTS,
    STEPS,
    Given,
    asked,
    jobs_of,
    path,
    reads,
)
from aeflow.study.study import Study

LOCKS = (Path("requirements.lock"), Path("requirements-peers.lock"))
RESTORE = "restore it from git and DVC, or delete it and run snakemake"


class Doctor:
    """Whether one study belongs together, in the folder of the repository.

    Attributes:
        findings: a sentence for each thing that is wrong.
        examined: the files that were looked at.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.findings: list[str] = []
        self.examined: set[Path] = set()
        self._locked = locked_versions()
        self._receipts: dict[Path, Receipt | None] = {}
        self._digests: dict[Path, str] = {}

    def examine(self) -> list[str]:
        """Look at everything that is here; return the findings."""
        jobs = {
            path(self.study, STEPS[step].receipt, given): (step, given)
            for step, given in jobs_of(self.study)
        }
        for receipt, (step, given) in jobs.items():
            self._try(partial(self._job, receipt, step, given))
        folder = Path("results", self.study.study)
        for tracked in sorted([*Path("data").rglob("*.dvc"), *folder.rglob("*.dvc")]):
            self._try(partial(self._tracked, tracked))
        if not any(receipt.exists() for receipt in jobs if folder in receipt.parents):
            self.findings.append(
                f"No results of study {self.study.study} are in {folder}: was it run, and is "
                "its overlay missing?"
            )
        self.findings = list(dict.fromkeys(self.findings))  # two jobs may miss the same file
        return self.findings

    def _job(self, place: Path, step: str, given: Given) -> None:
        receipt = self._read(place)
        if receipt is None:
            return
        if not receipt.sealed:
            self._find(place, "was edited by hand")
        wanted = asked(self.study, step, given)
        self._compare(place, receipt.settings, wanted.as_json(), "is not what is configured")
        for name in STEPS[step].makes:
            file = path(self.study, name, given)
            found = self._digest(file)
            if found is not None and found != receipt.made.get(file.as_posix()):
                self._find(file, f"is not the file that {place} names (another SHA-256)")
        files = reads(self.study, step, given)
        read = [
            (name, file)
            for name, several in files.items()
            for file in (several if isinstance(several, list) else [several])
        ]
        for name, file in read:
            self._origin(place, receipt, name, file, given)
        for name, version in receipt.versions.items():
            locked = self._locked.get(name, version)
            if version.partition("+")[0] != locked:
                self.findings.append(
                    f"{place} was made with {name} {version}, and the lock says {locked}: install "
                    f"what the lock says, or run it again (`snakemake --forcerun {step}`)."
                )
        if isinstance(wanted, JudgeAsked) and all(file.is_file() for _, file in read):
            again = json.loads(json.dumps(evaluate(wanted, **files)))  # type: ignore[arg-type]
            self._compare(place, receipt.facts, again, f"does not follow from {files['scores']}")

    def _origin(self, place: Path, receipt: Receipt, name: str, file: Path, given: Given) -> None:
        """Compare a file that a job read with what is there now, or with what its receipt says."""
        if name in RECEIPTS and (made := self._read(path(self.study, RECEIPTS[name], given))):
            now = made.made.get(file.as_posix())
        else:
            now = self._digest(file)
        if now is not None and receipt.origin.get(file.as_posix()) != now:
            self._find(place, f"was made from another {file} than there is now")

    def _tracked(self, place: Path) -> None:
        """Compare a `.dvc` with its payload, where that is here as a whole."""
        self.examined.add(place)
        for out in read_dvc_file(place):
            payload = place.parent / out.path
            here = payload_files(payload)
            if here and len(here) == out.nfiles and out.md5 != dvc_md5(payload):
                self.findings.append(
                    f"{payload} is not what {place} records: `dvc checkout {payload}` brings that "
                    "back, `python scripts/track.py` records what is here."
                )

    def _try(self, check: Callable[[], None]) -> None:
        """Note as a finding what keeps a check from being made."""
        try:
            check()
        except AeflowError as error:
            self.findings.append(one_line(str(error)))  # YAML's have several

    def _read(self, place: Path) -> Receipt | None:
        """Return a receipt, None if it is absent; one that is damaged is found once."""
        if place not in self._receipts:
            self._receipts[place] = None
            if place.exists():
                self.examined.add(place)
                self._receipts[place] = read_receipt(place)
        return self._receipts[place]

    def _digest(self, file: Path) -> str | None:
        """Return the SHA-256 of a file, None if it is absent."""
        if file not in self._digests and file.is_file():
            self.examined.add(file)
            self._digests[file] = sha256_file(file)
        return self._digests.get(file)

    def _compare(self, place: Path, found: Any, wanted: Any, verdict: str) -> None:
        different = list(differences(found, wanted))
        if different:
            more = f"; {len(different) - 3} more" if len(different) > 3 else ""
            self._find(place, f"{verdict} ({'; '.join(different[:3])}{more})")

    def _find(self, place: Path, what: str) -> None:
        self.findings.append(f"{place} {what}: {RESTORE}.")


def locked_versions() -> dict[str, str]:
    """Return the versions that the lock files pin, and that of this package."""
    pinned = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)
    found = {"aeflow": importlib.metadata.version("aeflow")}
    for lock in filter(Path.exists, LOCKS):
        found |= dict(pinned.findall(lock.read_text(encoding="utf-8")))
    return found


class Tracked(BaseModel):
    """One payload of a `.dvc` file."""

    path: str  # seen from the file's folder
    md5: str
    nfiles: int = 1


class DvcFile(BaseModel):
    """A `.dvc` file."""

    outs: list[Tracked] = Field(min_length=1)
    wdir: str = "."


def read_dvc_file(place: Path) -> list[Tracked]:
    """Return the payloads of a `.dvc` file.

    Raises:
        DataError: the file is no YAML, or says of no payload where it is and what its MD5 is.
    """
    try:
        found = validate(DvcFile, load_yaml(place), str(place))
        for out in found.outs:
            out.path = Path(found.wdir, out.path).as_posix()
        return found.outs
    except ConfigError as error:
        raise DataError(
            f"{place} is no valid .dvc file ({error}): restore it from git, or delete it and run "
            "`python scripts/track.py`."
        ) from error


def payload_files(payload: Path) -> list[Path]:
    """Return the files of a payload but those that an interrupted job left (.dvcignore)."""
    files = [payload] if payload.is_file() else sorted(payload.rglob("*"))
    return [file for file in files if file.is_file() and not file.name.startswith(".")]


def dvc_md5(payload: Path) -> str:
    """Return the `md5` of a `.dvc` file: of a file, or of a JSON list of a folder's files."""
    if payload.is_file():
        return _md5(payload)
    listed = [
        {"md5": _md5(file), "relpath": file.relative_to(payload).as_posix()}
        for file in payload_files(payload)
    ]
    text = json.dumps(sorted(listed, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode()).hexdigest() + ".dir"


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
