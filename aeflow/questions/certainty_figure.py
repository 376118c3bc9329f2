"""Risk over coverage of the ensembles, and the ensembles beside their members."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aeflow.display.figure import STYLE, Caption, Drawing

Array = npt.NDArray[np.float64]
_GRID = np.linspace(0.01, 1, 100)
_DOT: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 6, "zorder": 4}
_TEXT = (
    "Left: the share of errors among the most certain test images, mean over categories; thin and "
    "dashed: the best order there could be, every error less certain than every right image; the "
    "end at 100 % is the error rate of all. A line that stays flat says that uncertainty does "
    "not tell errors. Right: AUROC of the ensemble (dot), from the lowest to the highest of its "
    "members (line) and their mean (tick)."
)


def plot_risk(dataset: str, ensembles: pd.DataFrame, risk: pd.DataFrame) -> Drawing:
    """Draw the risk-coverage curves of one dataset's ensembles, and AUROCs.

    Args:
        dataset: its name.
        ensembles: Output of `ensembles_table`; other datasets are left out.
        risk: Output of `risk_table`, the same.
    """
    ensembles = ensembles[ensembles["dataset"] == dataset]
    risk = risk[risk["dataset"] == dataset]
    caption = Caption(dataset, f"Risk over coverage on {dataset}", _TEXT)
    with style.context(STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        left.set(title=dataset, xlabel="Coverage: share of images, most certain first (%)")
        left.set(ylabel="Risk: share of errors (%)", xlim=(0, 101))
        right.set(title="Ensemble and members", xlabel="AUROC (%)")
        for number, row in enumerate(ensembles.to_dict("records")):
            curves = risk[risk["variant"] == row["variant"]]
            if len(curves):
                line = {"color": f"C{number % 7}", "linestyle": "-" if number < 7 else "-."}
                _draw_risk(left, curves, line, str(row["variant"]))
            _draw_members(right, row, number)
        names = list(ensembles["variant"])
        right.set_yticks(range(len(names)), names)
        right.set_ylim(max(len(names), 1) - 0.5, -0.5)
        if len(risk):
            left.plot([], [], "k--", linewidth=0.8, label="best order")
            left.set_ylim(bottom=0)
            handles, labels = left.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=4)
        else:
            why = _why_empty(ensembles)
            left.text(50, 0.5, why, ha="center", va="center", wrap=True)
    return Drawing(figure, caption)


def _why_empty(ensembles: pd.DataFrame) -> str:
    if ensembles.empty:
        return "no ensemble: no variant has two seeds"
    return "no curve: " + " ".join(sorted(set(ensembles["reason"].dropna()) - {""}))


def _draw_risk(axes: Axes, curves: pd.DataFrame, line: dict[str, Any], label: str) -> None:
    """Draw the mean over categories of the curve and of its optimum."""
    parts = [part for _, part in curves.groupby("category", sort=False)]
    grid = parts[0]["coverage"].to_numpy() if len(parts) == 1 else _GRID
    found = [np.interp(grid, part["coverage"], part["risk"]) for part in parts]
    # By the same points as the curve: between them the true optimum may lie above the line.
    lowest = [
        np.interp(grid, coverage, optimal_risk(coverage, part["risk"].iloc[-1]))
        for part in parts
        for coverage in [part["coverage"].to_numpy()]
    ]
    axes.plot(100 * grid, 100 * np.mean(found, axis=0), label=label, **line)
    axes.plot(100 * grid, 100 * np.mean(lowest, axis=0), "--", color=line["color"], linewidth=0.8)


def optimal_risk(coverage: Array, error_rate: float) -> Array:
    """Return the lowest share of errors among that share of images, shape (N,).

    Errors are then the last: e of all images are wrong, so 1 - e are covered before the first.
    """
    return np.maximum(0, 1 - (1 - error_rate) / coverage)


def _draw_members(axes: Axes, row: dict[Any, Any], place: int) -> None:
    colour = f"C{place % 7}"
    ends = [100 * row["member_auroc_lowest"], 100 * row["member_auroc_highest"]]
    axes.plot(ends, [place, place], color=colour, linewidth=3, alpha=0.4, solid_capstyle="butt")
    mean = 100 * row["member_auroc_mean"]
    axes.plot(mean, place, color=colour, marker="|", markersize=12, markeredgewidth=2)
    axes.plot(100 * row["image_auroc"], place, color=colour, **_DOT)
