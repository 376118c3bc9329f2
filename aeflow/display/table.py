"""Tables as data, for people and for papers: how each is typed, formatted, written and read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.files import write_text
from aeflow.core.text import guarded, one_line, printable, unguarded

# The metrics of the tables: shares in [0, 1], higher is better; people see percent.
LABELS = {
    "image_auroc": "AUROC",
    "image_aupr": "AUPR",
    "f1": "F1",
    "accuracy": "ACC",
    "sensitivity": "SEN",
    "specificity": "SPE",
    "oracle_f1": "F1 (oracle)",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO",
}
METRICS = list(LABELS)
# What a column holds, told by its name; `n_...` are counts, all others are numbers.
TEXT = {
    *("dataset", "category", "variant", "method", "encoder", "threshold_rule", "reason"),
    *("defect", "reference", "who", "detail", "metric", "printed", "role", "ours_metric"),
    *("verdict", "why", "ablation", "of", "key", "value", "across", "trained_as"),
    *("flow", "reconstruction", "scaling", "asked"),
}
# Columns for people that hold a variant's name.
VARIANTS = ("Variant", "Reference", "Trained as")
FLAGS = {"best", "within_one_error", "chosen", "is_default", "claim"}
COUNTS = {"seed", "n", "best_epoch"}
# A number that siunitx aligns: sign or "less than", whole part, decimals, and those of an sd.
_NUMBER = re.compile(r"([<+−-]?)(\d+)(?:\.(\d+))?(?: ± (\d+)(?:\.(\d+))?)?")
# A mean ± sd stands as such, bold numbers are bold, and a sign stays.
_SIUNITX = (
    r"\begingroup\sisetup{separate-uncertainty, retain-explicit-plus, reset-text-series=false, "
    "text-series-to-math}\n"
)
# What Markdown reads as something else than text: HTML, a link, code, emphasis, the next cell.
_MARKDOWN = str.maketrans({**{c: f"\\{c}" for c in "\\|`*[]"}, "<": "&lt;", "&": "&amp;"})
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
        **{
            "±": r"$\pm$",
            "–": "--",
            "−": "$-$",
            "≥": r"$\geq$",
            "[": "{[}",
            "<": "$<$",
            ">": "$>$",
        },
    }
)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns have the types that their names ask for.

    Text is never missing but empty; a whole number may be missing.

    Raises:
        DataError: a column holds something else.
    """
    columns = {}
    for name, values in table.items():
        try:
            columns[name] = _column(str(name), values)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"The column {name} holds something else than numbers ({error}): a column of text "
                "is named in TEXT of aeflow/display/table.py."
            ) from error
    return pd.DataFrame(columns, columns=table.columns, index=range(len(table)))


def _column(name: str, values: pd.Series) -> pd.Series:
    values = values.reset_index(drop=True)
    if name in TEXT:
        text = values.astype("str").fillna("")
        return text.str.replace("\r\n", "\n").str.replace("\r", "\n").map(printable)
    if name in FLAGS:
        return values.map(lambda value: str(value) == "True").astype(bool)
    numbers = pd.to_numeric(values)
    whole = name in COUNTS or name.startswith("n_")
    return numbers.astype("Int64" if whole else "float64")


def csv_text(table: pd.DataFrame) -> str:
    """Return a typed table as CSV; numbers keep every digit.

    Text that a spreadsheet would take for a formula gets an apostrophe in front, which
    `read_table` takes away again.
    """
    names = [name for name in table.columns if name in TEXT]
    safe = table.assign(**{name: table[name].map(guarded) for name in names})
    text: str = safe.to_csv(index=False, lineterminator="\n")
    return text


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote, `typed`: a category 01 and a defect NA stay so.

    Raises:
        DataError: the file is missing, no CSV, or holds what no rule writes.
    """
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(TEXT | FLAGS, str),
            keep_default_na=False,
            na_values=[""],
        )
        table = typed(table)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run snakemake, which makes it.") from error
    except (ValueError, DataError) as error:  # pandas' errors of parsing are ValueErrors
        raise DataError(
            f"{path} holds what no rule writes ({error}): restore it from git, or delete it and "
            "run snakemake."
        ) from error
    names = [name for name in table.columns if name in TEXT]
    return table.assign(**{name: table[name].map(unguarded) for name in names})


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

    def noting(self, sentence: str) -> "DisplayTable":
        """Return the table with one more paragraph below it."""
        return replace(self, note="\n".join(filter(None, [self.note, sentence])))

    def labelled(self, labels: Mapping[str, str]) -> "DisplayTable":
        """Return the table with labels in the place of variants' names."""
        cells = self.cells.copy()
        for name in set(VARIANTS) & set(cells.columns):
            cells[name] = [labels.get(variant, variant) for variant in cells[name]]
        return replace(self, cells=cells)

    def rows(self) -> Iterator[list[tuple[str, bool]]]:
        """Yield the rows as (cell, bold) pairs, each cell on one line."""
        for cells, bold in zip(self.cells.to_numpy(), self.bold.to_numpy(), strict=True):
            lines = (one_line(str(cell)) for cell in cells)
            yield [(line, bool(strong)) for line, strong in zip(lines, bold, strict=True)]

    def markdown(self) -> str:
        """Return a Markdown table and the note."""

        def cell(text: str, bold: bool) -> str:
            text = text.translate(_MARKDOWN)
            return f"**{text}**" if bold and text else text

        body = [[cell(*pair) for pair in row] for row in self.rows()]
        names = [cell(one_line(str(name)), False) for name in self.cells.columns]
        table = pd.DataFrame(body, columns=names)
        text = table.to_markdown(index=False, disable_numparse=True)
        note = [cell(one_line(line), False) for line in self.note.splitlines()]
        return "\n\n".join([text, *note]) + "\n"

    def latex(self) -> str:
        """Return a booktabs tabular, a longtable if it is long, and the note as a comment.

        Columns of numbers are siunitx's S, aligned at the decimal point.
        """
        rows = list(self.rows())
        columns = [[text for text, _ in column] for column in zip(*rows, strict=True)]
        formats = [_number_format(column) for column in columns] or ["l"] * self.cells.shape[1]

        def cell(text: str, bold: bool, form: str) -> str:
            if form == "l":
                text = text.translate(_LATEX)
                return rf"\textbf{{{text}}}" if bold and text else text
            text = text.replace("−", "-").replace("±", r"\pm")
            return rf"\bfseries {text}" if bold and text else text

        def head(name: str, form: str) -> str:
            text = one_line(name).translate(_LATEX)
            return text if form == "l" else f"{{{text}}}"

        names = [head(str(n), form) for n, form in zip(self.cells.columns, formats, strict=True)]
        body = [[cell(*pair, f) for pair, f in zip(row, formats, strict=True)] for row in rows]
        table = pd.DataFrame(body, columns=names)
        packages = "booktabs, siunitx (3)" + ", longtable" * self.long
        note = map(one_line, self.note.splitlines())
        comments = [f"% {line}\n" for line in [f"Needs {packages}.", *note]]
        form = "".join(formats)
        text = table.to_latex(index=False, longtable=self.long, column_format=form)
        return "".join([*comments, _SIUNITX, text, "\\endgroup\n"])


def _number_format(cells: Sequence[str]) -> str:
    """Return the LaTeX column of cells: `l`, or where all are numbers S with their digits."""
    found = [_NUMBER.fullmatch(cell) for cell in cells if cell]
    parts = [match.groups() for match in found if match]
    if not parts or len(parts) < len(found):
        return "l"
    signs, whole, decimals, sd, sd_decimals = zip(*parts, strict=True)
    places = max(len(digits or "") for digits in decimals)
    sign = "<" if "<" in signs else "-" if any(signs) else ""
    form = sign + str(max(map(len, whole))) + f".{places}" * (places > 0)
    if any(sd):
        # siunitx counts the digits of an uncertainty from the number's last place on.
        digits = [len(f"{a or ''}{b or ''}") for a, b in zip(sd, sd_decimals, strict=True)]
        form += f"({max(digits)})"
    return f"S[table-format={form}]"


def write_table(table: pd.DataFrame, shown: DisplayTable, csv: Path, md: Path, tex: Path) -> None:
    """Write a typed table as data, and as people and papers see it."""
    write_text(csv, csv_text(table))
    write_text(md, shown.markdown())
    write_text(tex, shown.latex())


def plain(cells: pd.DataFrame, note: str = "", long: bool = False) -> DisplayTable:
    """Return a table without bold cells; columns without any content are left out."""
    cells = cells.reset_index(drop=True)
    if len(cells):
        cells = cells.loc[:, (cells != "").any()]
    bold = pd.DataFrame(False, index=cells.index, columns=cells.columns)
    return DisplayTable(cells, bold, note, long)


def by_variant(
    table: pd.DataFrame, heads: dict[str, str], metric: str, labels: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a metric with a row per value of some columns, and a column per variant.

    Args:
        heads: the columns, and what they are called.
        labels: what variants are called.

    Returns:
        The cells, `heads` first, mean ± sd; and the means, which have the variants alone.
    """
    keys = list(heads)
    rows = table[keys].drop_duplicates(ignore_index=True)
    cells, values = rows.astype("str").rename(columns=heads), pd.DataFrame(index=rows.index)
    for variant, own in table.groupby("variant", sort=False):
        found, label = rows.merge(own, on=keys, how="left"), labels[str(variant)]
        cells[label], values[label] = percents(found, metric), found[f"{metric}_mean"]
    return cells, values


def percents(table: pd.DataFrame, metric: str) -> list[str]:
    """Return `<metric>_mean` ± `<metric>_sd` of each row in percent."""
    return list(map(percent, table[f"{metric}_mean"], table[f"{metric}_sd"]))


def intervals(table: pd.DataFrame, metric: str) -> list[str]:
    """Return the interval from `<metric>_low` to `<metric>_high` of each row in percent."""
    return list(map(interval, table[f"{metric}_low"], table[f"{metric}_high"]))


def percent(mean: float, sd: float = float("nan")) -> str:
    """Format a share in [0, 1] as percent, `83.1 ± 0.4`; NaN gives an empty cell."""
    if pd.isna(mean):
        return ""
    return f"{100 * mean:.1f}" + ("" if pd.isna(sd) else f" ± {100 * sd:.1f}")


def interval(low: float, high: float) -> str:
    """Format an interval of shares as percent, `75.0–85.0`; NaN gives an empty cell."""
    return "" if pd.isna(low) else f"{percent(low)}–{percent(high)}"


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
