"""What every dot plot shares: named rows, dots and intervals, in percent.

matplotlib is imported by what draws: tables come from the same modules and need none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from aeflow.display.figure import DARK, LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def row_panels(
    names: Sequence[str], n_panels: int, size: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels beside each other that share named rows, from top to bottom."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    panels = list(figure.subplots(1, n_panels, sharey=True, squeeze=False).ravel())
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    for axes in panels[1:]:
        axes.tick_params(axis="y", left=False)
    for axes in panels:
        axes.grid(axis="x", color="0.9", zorder=0)
        axes.set_axisbelow(True)
    return figure, panels


def bars(
    axes: Axes, low: pd.Series, high: pd.Series, *, wide: bool = False, first: int = 0
) -> None:
    """Draw intervals of shares, one per row from the row `first` on; NaN draws nothing."""
    colour, width, order = (LIGHT, 4.5, 1) if wide else (DARK, 1.0, 2)
    places = range(first, first + len(low))
    axes.hlines(places, 100 * low, 100 * high, color=colour, linewidth=width, zorder=order)


def spread(mean: pd.Series, sd: pd.Series) -> npt.NDArray[np.float64]:
    """Return the lengths of the bars of mean ± sd, (2, N), in percent, cut at 0 and 100.

    Of shares; no bar without an sd.
    """
    length = sd.fillna(0).to_numpy(np.float64)
    return 100 * np.array([np.minimum(length, mean), np.minimum(length, 1 - mean)])


def keep_whole(axes: Axes, shares: Sequence[pd.Series], lowest: float = 0.0) -> None:
    """Let these values, and no others, rule the axis, which ends at what is possible.

    An interval over two seeds may be a hundred times as wide as what it is drawn beside.

    Args:
        lowest: possible value in percent: -100 of differences.
    """
    values = 100 * pd.concat(shares).dropna()
    if len(values):
        margin = 0.08 * float(np.ptp(values)) or 1.0
        axes.set_xlim(values.min() - margin, values.max() + margin)
        keep_possible(axes, "x", lowest)


def keep_possible(axes: Axes, which: Literal["x", "y"], lowest: float = 0.0) -> None:
    """End an axis of percent at the lowest and at 100; dots at an end stay whole."""
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    axes.set(**{f"{which}lim": (max(low, lowest), min(high, 100.0))})
    for line in axes.lines:
        if line.get_marker() != "None":
            line.set_clip_on(False)
