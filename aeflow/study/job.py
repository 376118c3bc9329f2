"""The one runner of rules' scripts: a script is a function, its signature its interface.

It stands in this room, not below, since it asks the study: a job is named by its wildcards, and
what it may know and which files it reads and makes follow from them (aeflow.study.cells). So no
command grows with the study.
"""

import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import validate_call

from aeflow.core.errors import ConfigError
from aeflow.core.files import sha256_file
from aeflow.core.job import script
from aeflow.core.receipts import read_receipt, write_receipt
from aeflow.study.cells import PATHS, STEPS, asked, path, reads, receipts
from aeflow.study.study import Study, read_study


def job(function: Callable[..., Any]) -> None:
    """Run a rule's script with `--study FILE` and the wildcards of a job.

    A parameter of the function is, by its name: `study`; `asked`, what the step may know of the
    study; a wildcard; or a path. A path that the job has no use for is None. Of a step, what the
    function returns becomes the facts of a receipt; under `sha256` it may give, by name, digests
    that it knows already.
    """
    script(lambda given: _run(function, {name: values[0] for name, values in given.items()}))


def _run(function: Callable[..., Any], given: dict[str, str]) -> None:
    if "study" not in given:
        raise ConfigError("give `--study results/<study>/study.json`, which a run writes.")
    study = read_study(Path(given.pop("study")))
    step = function.__name__
    if step not in STEPS:
        validate_call(function)(**_arguments(function, study, given, {}, tuple(PATHS)))
        return
    found = reads(study, step, given)
    origin = _digests(study, step, given, found)  # before the work, as a receipt may be missing
    made = (*STEPS[step].makes, "state")
    warnings = _Warnings()
    logging.getLogger("aeflow").addHandler(warnings)
    facts = validate_call(function)(**_arguments(function, study, given, found, made)) or {}
    known: dict[str, str] = facts.pop("sha256", {})
    files = {name: path(study, name, given) for name in STEPS[step].makes}
    write_receipt(
        path(study, STEPS[step].receipt, given),
        made={file: known.get(name) or sha256_file(file) for name, file in files.items()},
        origin=origin,
        settings=asked(study, step, given).as_json(),
        facts=facts,
        warnings=warnings.found,
    )


def _arguments(
    function: Callable[..., Any],
    study: Study,
    given: Mapping[str, str],
    found: Mapping[str, Any],
    made: tuple[str, ...],
) -> dict[str, Any]:
    """Return the arguments of a script's function, by the names of its parameters."""
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "study":
            arguments[name] = study
        elif name == "asked":
            arguments[name] = asked(study, function.__name__, given)
        elif name in found:
            arguments[name] = found[name]
        elif name in made:
            arguments[name] = path(study, name, given)
        elif name in given:  # last: `archive` is a wildcard and the file it names
            arguments[name] = given[name]
        elif parameter.default is inspect.Parameter.empty:
            arguments[name] = None
    return arguments


def _digests(
    study: Study, step: str, given: Mapping[str, str], found: Mapping[str, Path | list[Path]]
) -> dict[Path, str]:
    """Return the SHA-256 of each file that a job reads: of payload, what its receipt says."""
    digests = {
        file: read_receipt(receipt).sha256(file) for file, receipt in receipts(study, step, given)
    }
    for read in found.values():
        for file in read if isinstance(read, list) else [read]:
            if file not in digests:
                digests[file] = sha256_file(file)
    return digests


class _Warnings(logging.Handler):
    """Collects what a job warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())
