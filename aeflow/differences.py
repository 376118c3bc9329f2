"""Where two contents of JSON differ."""

import math
from collections.abc import Iterator
from typing import Any


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


def _short(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, dict | list) else repr(value)
