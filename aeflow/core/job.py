"""The frame of every script: a plain log, and one sentence on stderr when something is wrong."""

import gc
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from aeflow.core.errors import AccessError, AeflowError, ConfigError
from aeflow.core.files import writing
from aeflow.core.text import printable

logger = logging.getLogger("aeflow")
# In the environment of jobs whose sentences somebody else tells: who runs them reads their logs.
SILENT = "AEFLOW_SILENT"
# How the sentence that ended a job begins in its log.
_FAILED = re.compile(r"^\d{4}-\d\d-\d\d \S+ Failed: ", re.MULTILINE)


def cores() -> int:
    """Return how many CPU cores this process may use: a cluster or a container lends some."""
    allowed = getattr(os, "sched_getaffinity", None)  # on Linux
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def script(main: Callable[[dict[str, list[str]]], None]) -> None:
    """Run a script's `main` with the values of each `--name value ...`, but `--log FILE`.

    Lines of the log go to FILE (to stderr without one). An error the user can act on becomes one
    line on stderr (a recipe: several) and exit status 1; its traceback goes to the log, and the
    line too.

    Heavy libraries are best imported by `main`, not before: imports leave no garbage, and to look
    for some, while they run and at the end, took a quarter of the CPU time of `import torch`.
    """
    gc.set_threshold(100_000)
    name, log = Path(sys.argv[0]).name, None
    try:
        given = _options(sys.argv[1:])
        log = Path(given.pop("log")[0]) if "log" in given else None
        _start_log(log)
    except AeflowError as error:
        raise SystemExit(f"{name}: {printable(str(error))}") from None
    try:
        main(given)
    except KeyboardInterrupt:
        logger.error("Failed: Stopped by Ctrl-C.")
        raise SystemExit(130) from None
    except Exception as error:
        logger.error("%s", traceback.format_exc())
        known = isinstance(error, AeflowError)
        # Libraries' messages have line breaks; a recipe has them on purpose.
        recipe = isinstance(error, AccessError)
        message = printable(str(error) if recipe else " ".join(str(error).split()))
        if not known:
            message = f"Unexpected {type(error).__name__}: {message}."
        where = "" if known or log is None else f" The traceback is in {log}."
        logger.error("Failed: %s%s", message, where)
        # A full disk may not have taken it.
        told = log is not None and SILENT in os.environ and why_failed(log) == message + where
        raise SystemExit(1 if told else f"{name}: {message}{where}") from None
    finally:
        gc.freeze()  # the process ends


def _options(words: list[str]) -> dict[str, list[str]]:
    """Return {name: values} of `--name value ...`; a dash in a name is an underscore.

    Raises:
        ConfigError: the words are no such options.
    """
    found: dict[str, list[str]] = {"": []}
    for word in words:
        if word.startswith("--"):
            found[word[2:].replace("-", "_")] = []
        else:
            found[list(found)[-1]].append(word)
    if found.pop("") or not all(found.values()):
        raise ConfigError(f"give `--name value` options, not `{' '.join(words)}`.")
    return found


class _Printable(logging.Formatter):
    """What a log's reader would see, not what the reader's terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _start_log(path: Path | None) -> None:
    handler: logging.Handler = logging.StreamHandler()
    if path is not None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(_Printable("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.getLogger().addHandler(handler)
    logger.setLevel(logging.INFO)
    # A log that cannot grow on a full disk must not bury the sentence that says so.
    logging.raiseExceptions = False


def why_failed(log: Path) -> str:
    """Return the sentence that ended a job, from its log; of a recipe its lines."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    *_, sentence = _FAILED.split(text)
    if sentence == text:
        return f"Ended without a sentence, killed perhaps (log: {log})."
    return sentence.strip()
