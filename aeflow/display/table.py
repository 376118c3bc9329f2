"""Tables for people and papers: percent with one decimal, mean ± sd, the best in bold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aeflow.questions.results import METRICS

LABELS = dict(
    zip(
        METRICS,
        ["AUROC", "AUPR", "F1", "ACC", "SEN", "SPE", "F1 (oracle)", "Pixel AUROC", "AUPRO"],
        strict=True,
    )
)
# What shortens the tables' notes.
ORACLE_NOTE = "F1 (oracle) uses the best threshold for the test labels, which no detector knows."
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
        **{"±": r"$\pm$", "–": "--", "−": "$-$", "≥": r"$\geq$"},
    }
)


@dataclass(frozen=True)
class DisplayTable:
    """A table ready to print.

    Attributes:
        cells: Strings; an empty string is an empty cell.
        bold: Same shape, True where the cell is printed in bold.
        note: Sentences that belong below the table; a new line is a new paragraph.
        long: Whether it may need several pages of a paper.
    """

    cells: pd.DataFrame
    bold: pd.DataFrame
    note: str = ""
    long: bool = False

    def rows(self) -> Iterator[list[tuple[str, bool]]]:
        """Yield the rows as (cell, bold) pairs."""
        for cells, bold in zip(self.cells.to_numpy(), self.bold.to_numpy(), strict=True):
            yield [(str(cell), bool(strong)) for cell, strong in zip(cells, bold, strict=True)]

    def markdown(self) -> str:
        """Return a Markdown table and the note."""

        def cell(text: str, bold: bool) -> str:
            text = text.replace("|", r"\|")
            return f"**{text}**" if bold and text else text

        body = [[cell(*pair) for pair in row] for row in self.rows()]
        table = pd.DataFrame(body, columns=self.cells.columns)
        text = table.to_markdown(index=False, disable_numparse=True)
        return "\n\n".join([text, *self.note.splitlines()]) + "\n"

    def latex(self) -> str:
        """Return a booktabs tabular, a longtable if it is long, and the note as a comment."""

        def cell(text: str, bold: bool) -> str:
            text = text.translate(_LATEX)
            return rf"\textbf{{{text}}}" if bold and text else text

        names = [str(name).translate(_LATEX) for name in self.cells.columns]
        table = pd.DataFrame([[cell(*pair) for pair in row] for row in self.rows()], columns=names)
        packages = "booktabs and longtable" if self.long else "booktabs"
        comments = [f"% {line}\n" for line in [f"Needs {packages}.", *self.note.splitlines()]]
        return "".join(comments) + table.to_latex(index=False, longtable=self.long)


def plain(cells: pd.DataFrame, note: str = "", long: bool = False) -> DisplayTable:
    """Return a table without bold cells; columns without any content are left out."""
    if len(cells):
        cells = cells.loc[:, (cells != "").any()]
    bold = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    return DisplayTable(cells, bold, note, long)


def percent(mean: float, sd: float = float("nan")) -> str:
    """Format a share in [0, 1] as percent, `83.1 ± 0.4`; NaN gives an empty cell."""
    if np.isnan(mean):
        return ""
    return f"{100 * mean:.1f}" + ("" if np.isnan(sd) else f" ± {100 * sd:.1f}")


def points(difference: float) -> str:
    """Format a difference of shares in percentage points, with a sign; NaN gives an empty cell."""
    return "" if pd.isna(difference) else f"{100 * difference:+.1f}".replace("-", "−")


def number(value: float, decimals: int | None = None) -> str:
    """Format a number with 4 significant digits or so many decimals; NaN gives an empty cell."""
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"


def best(table: pd.DataFrame, columns: list[str], groups: pd.Series) -> pd.DataFrame:
    """Mark the largest values per group, equal after rounding to 0.1 percent.

    A group of one row has no best; neither has a column without values.
    """
    shown = (100 * table[columns]).round(1)
    largest = shown.groupby(groups).transform("max")
    rivals = groups.groupby(groups).transform("size") > 1
    return shown.eq(largest) & shown.notna() & rivals.to_numpy()[:, None]


def main_display(main: pd.DataFrame) -> DisplayTable:
    """Return the main table for people: a row per dataset and variant."""
    cells = pd.DataFrame({"Dataset": main["dataset"], "Variant": main["variant"]})
    for metric, label in LABELS.items():
        values = zip(main[f"{metric}_mean"], main[f"{metric}_sd"], strict=True)
        cells[label] = [percent(mean, sd) for mean, sd in values]
    cells["Threshold"] = main["threshold_rule"].fillna("")
    cells["Seeds"] = main["n_seeds"].astype(str)
    averaged = main[main["n_categories"] > 1].drop_duplicates("dataset")
    notes = [
        "Percent, mean ± sd over seeds.",
        *(
            f"{name}: mean over {count} categories."
            for name, count in zip(averaged["dataset"], averaged["n_categories"], strict=True)
        ),
        "F1, ACC, SEN and SPE use a threshold fitted on validation images by the rule named.",
        ORACLE_NOTE,
        "Bold: best of a dataset, the oracle aside.",
    ]
    table = plain(cells, " ".join(notes))
    judged = [metric for metric in METRICS if metric != "oracle_f1"]
    marks = best(main, [f"{metric}_mean" for metric in judged], main["dataset"])
    marks.columns = pd.Index([LABELS[metric] for metric in judged])
    shown = [label for label in marks.columns if label in table.cells]
    table.bold[shown] = marks[shown]
    return table


def results_display(results: pd.DataFrame) -> DisplayTable:
    """Return every run for people: a row per dataset, category, variant and seed."""
    cells = results[["dataset", "category", "variant"]].copy()
    cells.columns = pd.Index(["Dataset", "Category", "Variant"])
    cells["Seed"] = results["seed"].astype(str)
    for metric, label in LABELS.items():
        cells[label] = [percent(value) for value in results[metric]]
        if metric == "image_auroc":
            cells["AUROC interval"] = intervals(results)
    cells["Threshold"] = [number(value) for value in results["threshold"]]
    cells["Rule"] = results["threshold_rule"].fillna("")
    cells["Fit (s)"] = [number(value, 1) for value in results["fit_seconds"]]
    return plain(
        cells,
        "Percent. F1, ACC, SEN and SPE at the threshold shown, fitted on validation images by the "
        f"rule named. {ORACLE_NOTE} Interval: bootstrap over the test images.",
        long=True,
    )


def interval(low: float, high: float) -> str:
    """Format an interval of shares as percent, `75.0–85.0`; NaN gives an empty cell."""
    return "" if np.isnan(low) else f"{percent(low)}–{percent(high)}"


def intervals(results: pd.DataFrame) -> list[str]:
    """Return the bootstrap interval of each run's AUROC in percent, or an empty string."""
    ends = zip(results["image_auroc_low"], results["image_auroc_high"], strict=True)
    return [interval(low, high) for low, high in ends]
