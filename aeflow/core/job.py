"""Logs of a script: plain lines in a file, one sentence on stderr when something is wrong."""

import argparse
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from aeflow.core.errors import AccessError, AeflowError
from aeflow.core.files import writing

logger = logging.getLogger("aeflow")


def script(main: Callable[[list[str]], None]) -> None:
    """Run a script's `main` with the command line's arguments, without `--log FILE`.

    Lines of the log go to FILE (to stderr without one). An error the user can act on becomes one
    line on stderr (a recipe: several) and exit status 1; its traceback goes to the log.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--log", type=Path)
    own, arguments = parser.parse_known_args()
    name = Path(sys.argv[0]).name
    try:
        _start_log(own.log)
    except AeflowError as error:
        raise SystemExit(f"{name}: {error}") from None
    try:
        main(arguments)
    except Exception as error:
        logger.error("%s", traceback.format_exc())
        known = isinstance(error, AeflowError)
        # Libraries' messages have line breaks; a recipe has them on purpose.
        recipe = isinstance(error, AccessError)
        message = str(error) if recipe else " ".join(str(error).split())
        if not known:
            message = f"Unexpected {type(error).__name__}: {message}."
        where = "" if known or own.log is None else f" The traceback is in {own.log}."
        raise SystemExit(f"{name}: {message}{where}") from None


def _start_log(path: Path | None) -> None:
    handler: logging.Handler = logging.StreamHandler()
    if path is not None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.getLogger().addHandler(handler)
    logger.setLevel(logging.INFO)
    # A log that cannot grow on a full disk must not bury the sentence that says so.
    logging.raiseExceptions = False
