"""CSV files inside an archive: groups, labels, lists of images."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from zipfile import ZipFile

from aeflow.core.errors import DataError
from aeflow.data.archives import is_hidden, read_member

# Columns of names, which may begin or end with a space; other cells are stripped.
PATHS = ("file", "image", "mask", "path")


@dataclass(frozen=True)
class Table:
    """A CSV file: where it is inside the archive, its columns and rows."""

    path: str
    columns: list[str]
    rows: list[dict[str, str]]

    @property
    def folder(self) -> str:
        """The folder the file is in, with a slash at its end; empty at the top."""
        return self.path[: self.path.rfind("/") + 1]


def find_tables(archive: ZipFile, pattern: str, columns: Iterable[str]) -> list[Table]:
    """Read every CSV file whose path matches `pattern` whole and is not hidden.

    Raises:
        DataError: a file is no UTF-8 text, lacks a column, or has a row with too few or too many
            cells.
    """
    names = sorted(member.filename for member in archive.infolist() if not member.is_dir())
    found = [name for name in names if re.fullmatch(pattern, name) and not is_hidden(name)]
    return [_read(archive, name, set(columns)) for name in found]


def _read(archive: ZipFile, name: str, needed: set[str]) -> Table:
    try:
        text = read_member(archive, name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is no UTF-8 text: save it as UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="\0")
    columns = list(reader.fieldnames or ())
    missing = needed - set(columns)
    if missing:
        raise DataError(f"{name} lacks the column {' and '.join(sorted(missing))}.")
    rows = []
    for row in reader:
        if "" in row or "\0" in row.values():
            raise DataError(f"{name}, line {reader.line_num}: not one cell for each column.")
        rows.append({c: cell if c in PATHS else cell.strip() for c, cell in row.items()})
    return Table(name, columns, rows)


def read_groups(tables: Iterable[Table]) -> dict[str, str]:
    """Return image (path inside the archive, or file name) -> group.

    Raises:
        DataError: an image has two groups.
    """
    groups: dict[str, str] = {}
    for table in tables:
        for row in table.rows:
            if groups.setdefault(row["file"], row["group"]) != row["group"]:
                raise DataError(f"{table.path} gives {row['file']} two groups.")
    return groups


def read_one_hot(tables: Iterable[Table]) -> dict[str, str]:
    """Return image (file name without extension) -> the column that holds 1.

    Raises:
        DataError: a row has not exactly one 1 among zeros, or an image has two classes.
    """
    classes: dict[str, str] = {}
    for table in tables:
        for row in table.rows:
            values = {name: _number(cell) for name, cell in row.items() if name != "image"}
            ones = [name for name, value in values.items() if value == 1]
            if len(ones) != 1 or set(values.values()) - {0, 1}:
                raise DataError(f"{table.path}: {row['image']} is not of exactly one class.")
            if classes.setdefault(row["image"], ones[0]) != ones[0]:
                raise DataError(f"{table.path} gives {row['image']} a second class.")
    return classes


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return -1.0
