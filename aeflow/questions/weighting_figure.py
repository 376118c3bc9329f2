"""AUROC over beta, a panel per definition of S_recon and scaling."""

from typing import Any

import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aeflow.core.types import FlowScore
from aeflow.display.figure import STYLE, Caption, Drawing
from aeflow.judging.weighting import PAPER_BETA

_COLOURS = {name.value: f"C{number}" for number, name in enumerate(FlowScore)}
_DOT: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 6, "zorder": 4}
_RING: dict[str, Any] = {**_DOT, "markerfacecolor": "none", "markersize": 9}


def plot_weighting(dataset: str, sweep: pd.DataFrame, table: pd.DataFrame) -> Drawing:
    """Draw the AUROC of one dataset's score over beta, mean over seeds.

    Args:
        dataset: its name.
        sweep: Output of `sweep_table`; other datasets are left out.
        table: Output of `weighting_table`, the same.
    """
    sweep, table = sweep[sweep["dataset"] == dataset], table[table["dataset"] == dataset]
    known = sweep[["val_auroc_mean", "test_auroc_mean"]].notna().to_numpy().any()
    with style.context(STYLE):
        figure = _panels(dataset, sweep, table) if known else _words(dataset, sweep)
    text = (
        "Mean over seeds; categories are averaged first. Solid: test images. Dashed: validation "
        "images. Dot: the test AUROC of the beta that validation chooses, ring: of the best beta "
        "by test labels (oracle, not a result); where seeds choose different betas, both are "
        "means over seeds and may lie off the line. Dotted: the paper's beta, 0.9. At beta 0 the "
        "score is S_recon alone, at 1 S_flow."
    )
    return Drawing(figure, Caption(dataset, f"AUROC over beta on {dataset}", text))


def _words(dataset: str, sweep: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(5.9, 2), layout="constrained")
    axes = figure.add_subplot(title=dataset, xlabel="Beta", ylabel="AUROC", yticks=[])
    reasons = sorted(set(sweep["reason"].dropna()) - {""})
    why = " ".join(reasons) if len(sweep) else "no variant of the method aeflow runs on it"
    axes.text(0.5, 0.5, f"no sweep: {why}", ha="center", va="center", wrap=True)
    return figure


def _panels(dataset: str, sweep: pd.DataFrame, table: pd.DataFrame) -> Figure:
    columns = list(dict.fromkeys(sweep["reconstruction"]))
    rows = list(dict.fromkeys(zip(sweep["variant"], sweep["scaling"], strict=True)))
    figure = Figure(figsize=(6.6, 2.1 * len(rows) + 1.1), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    for (variant, scaling), line in zip(rows, grid, strict=True):
        for reconstruction, axes in zip(columns, line, strict=True):
            key = {"variant": variant, "scaling": scaling, "reconstruction": reconstruction}
            _draw(axes, _where(sweep, key), _where(table, key))
            axes.set_title(f"{variant}: S_recon = {reconstruction}, {scaling}", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("AUROC (%)")
    for axes in grid[-1]:
        axes.set_xlabel("Beta, weight of S_flow")
    grid[0, 0].plot([], [], "k-", label="test")
    grid[0, 0].plot([], [], "k--", linewidth=1, label="validation")
    grid[0, 0].plot([], [], color="k", **_DOT, label="chosen on validation")
    grid[0, 0].plot([], [], color="k", **_RING, label="oracle")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(dataset, fontsize=10)
    return figure


def _where(table: pd.DataFrame, key: dict[str, str]) -> pd.DataFrame:
    """Return the rows with these values."""
    return table[(table[list(key)] == pd.Series(key)).all(axis=1)]


def _draw(axes: Axes, sweep: pd.DataFrame, table: pd.DataFrame) -> None:
    axes.axvline(PAPER_BETA, color="0.6", linestyle=":", linewidth=1)
    for flow, curve in sweep.groupby("flow", sort=False):
        colour = _COLOURS[str(flow)]
        beta = curve["beta"]
        axes.plot(beta, 100 * curve["test_auroc_mean"], color=colour, label=f"S_flow = {flow}")
        axes.plot(beta, 100 * curve["val_auroc_mean"], "--", color=colour, linewidth=1)
        (row,) = table[table["flow"] == flow].to_dict("records")
        marks = (("beta", "test_auroc", _DOT), ("oracle_beta", "oracle_test_auroc", _RING))
        for x, y, mark in marks:
            point = row[f"{x}_mean"], 100 * row[f"{y}_mean"]
            axes.plot(*point, color=colour, **mark)
