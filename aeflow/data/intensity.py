"""How gray levels of more than 8 bits become 8 bits (`data.intensity`).

Radiographs and machine cameras have 10, 12 or 14 bits, mostly in files of 16: taken as 16 bits,
they are nearly black, and faint defects vanish in the 4 to 64 gray levels that are left. So what
is used is measured, on training normals alone.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeflow.core.errors import DataError
from aeflow.study.settings import Intensity

MEASURED: tuple[Intensity, ...] = ("range", "percentiles")  # the others are up to each file
# A single hot or dead pixel moves the lowest and the highest level, but not these.
PERCENTILES = (0.5, 99.5)
WHITE = 255
Values = NDArray[Any]  # numbers of any type


class Levels(NamedTuple):
    """The levels that become black and white."""

    low: float
    high: float


class Used(NamedTuple):
    """Levels of an image: the lowest, two percentiles (`PERCENTILES`), the highest."""

    lowest: float
    low: float
    high: float
    highest: float


def measure(values: Values) -> Used:
    """Measure an image's levels; what is not finite does not count.

    Raises:
        ValueError: no value is finite.
    """
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        raise ValueError("none of its pixels is a finite number")
    return Used(*map(float, np.percentile(values, (0, *PERCENTILES, 100))))


def shared_levels(intensity: Intensity, used: Sequence[Used]) -> Levels | None:
    """Return what becomes black and white in every image; None: each file says it of itself.

    Args:
        intensity: `range` spans all levels of all these images. `percentiles` is the same without
            the 0.5 % darkest and brightest pixels of each: of no image more is clipped.
        used: levels of the training normals that have more than 8 bits. Nothing else may shape
            this: an image of the test would then depend on the others.

    Raises:
        DataError: all pixels have one level, or no number holds the difference.
    """
    if intensity not in MEASURED or not used:
        return None
    if intensity == "range":
        levels = Levels(min(u.lowest for u in used), max(u.highest for u in used))
    else:
        levels = Levels(min(u.low for u in used), max(u.high for u in used))
    if levels.low == levels.high:
        raise DataError(
            f"All pixels of the {len(used)} training normals of more than 8 bits have the level "
            f"{levels.low:g}: data.intensity: {intensity} has nothing to spread."
        )
    if math.isinf(levels.high - levels.low):
        raise DataError(
            f"The levels of the {len(used)} training normals go from {levels.low:g} to "
            f"{levels.high:g}, too far for data.intensity: {intensity}: write NaN where none is."
        )
    return levels


def to_eight_bit(values: Values, levels: Levels) -> NDArray[np.uint8]:
    """Scale levels to 0..255, rounded; what is beyond is clipped, NaN is black."""
    if values.dtype.kind in "iu" and values.size:
        least, most = int(values.min()), int(values.max())
        # A table is several times faster than arithmetic.
        if most - least < 2**16 and max(-least, most) < 2**62:
            table = _scale(np.arange(least, most + 1, dtype=np.float64), levels)
            return table[values.astype(np.int64) - least]
    return _scale(values.astype(np.float64), levels)


def _scale(values: NDArray[np.float64], levels: Levels) -> NDArray[np.uint8]:
    shares = (values - levels.low) / (levels.high - levels.low)
    scaled = np.rint(np.clip(shares, 0, 1) * WHITE)
    return np.nan_to_num(scaled, nan=0).astype(np.uint8)


def narrow_use(used: Sequence[Used], full: Sequence[Levels], measured: bool = False) -> str | None:
    """Say what is lost where deep images use less than half of the range that is spread.

    And what to set; None: nothing is to be said. `used` are levels of training normals of more
    than 8 bits, `full` what the type of each can hold; or, `measured`, what `range` found.
    """
    if not used or not full:
        return None
    low, high = min(u.low for u in used), max(u.high for u in used)
    span = max(levels.high - levels.low for levels in full)
    share = (high - low) / span
    if len(set(full)) > 1:
        return (
            "the range of levels differs from file to file, so that one level is not one gray. "
            "Set data.intensity to range or percentiles"
        )
    if share >= 0.5:
        return None
    grays = max(1, round(share * (WHITE + 1)))
    whole = "all levels, stray pixels among them" if measured else "what their files can hold"
    better = "percentiles" if measured else "range or percentiles"
    return (
        f"their levels go from {low:g} to {high:g} (without the 0.5 % lowest and highest), "
        f"{share:.1%} of {whole}: of {WHITE + 1} gray levels they get {grays}. "
        f"Set data.intensity to {better}"
    )
