"""Where two contents of JSON, or two tables, differ."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aeflow.core.errors import DataError


def differences(found: Any, wanted: Any, key: str = "") -> Iterator[str]:
    """Yield "key: found, not wanted" of each wanted value that differs, keys of keys with dots.

    Numbers may differ by rounding: another processor adds in another order.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name, value in wanted.items():
            yield from differences(found.get(name), value, f"{key}.{name}" if key else name)
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from differences(one, other, f"{key}[{i}]")
    elif isinstance(found, float) and isinstance(wanted, float):
        if not math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12):
            yield f"{key}: {found!r}, not {wanted!r}"
    elif found != wanted:
        yield f"{key}: {_short(found)}, not {_short(wanted)}"


def csv_content(text: str, where: Path) -> dict[str, Any]:
    """Return the columns of a CSV and its rows, for `differences`; numbers as such.

    Raises:
        DataError: it is no CSV; `where` is named.
    """
    try:
        columns, *rows = list(csv.reader(text.splitlines())) or [[]]
    except csv.Error as error:
        raise DataError(
            f"{where} is no valid CSV ({error}): delete it and run snakemake."
        ) from error
    named = [dict(zip(columns, map(_value, row), strict=False)) for row in rows]
    return {"columns": columns, "cells": list(map(len, rows)), "rows": named}


def _value(text: str) -> Any:
    try:
        value = json.loads(text)  # unlike float(), which takes a category called 01 for 1
    except ValueError:
        return text
    return float(value) if isinstance(value, int | float) else text


def _short(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, dict | list) else repr(value)
