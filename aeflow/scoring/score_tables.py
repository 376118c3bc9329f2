"""Score tables: a row per validation and test image, its identity, then score components."""

from pathlib import Path

import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.files import write_text
from aeflow.core.text import guarded, unguarded
from aeflow.core.types import ANOMALOUS, NORMAL, SCORE_TABLE_COLUMNS, Split
from aeflow.scoring.combine import component, components

WORDS = ("image_id", "defect")  # come from a dataset, and may look like a spreadsheet's formula
DIGITS = 7  # about what float32 holds; git keeps these tables


def check_scores(table: pd.DataFrame) -> None:
    """Check a score table; DataError: names the first image that is wrong."""
    missing = [name for name in SCORE_TABLE_COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"The score table has no column {', '.join(missing)}: score the images again."
        )
    label = pd.to_numeric(table["gt_label"], errors="coerce")
    for wrong, what in (
        (table["image_id"].duplicated(), "stands there twice"),
        (~table["split"].isin([Split.VALIDATION, Split.TEST]), "is not of validation or test"),
        (~label.isin([NORMAL, ANOMALOUS]), "has a label other than 0 and 1"),
    ):
        if wrong.any():
            image_id = table["image_id"][wrong].iloc[0]
            raise DataError(
                f"Image '{image_id}' {what} in the score table: score the images again."
            )
    for name in components(table):
        component(table, name)


def write_scores(path: Path, table: pd.DataFrame) -> None:
    """Write a score table as CSV with `DIGITS` significant digits."""
    table = table.assign(**{name: table[name].astype("str").map(guarded) for name in WORDS})
    text = table.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
    write_text(path, text)


def read_scores(path: Path) -> pd.DataFrame:
    """Read a score table; DataError: it is missing, damaged, or wrong (`check_scores`)."""
    # A defect may be called "NA"; the broken numbers are found by check_scores.
    text = dict.fromkeys((*WORDS, "split"), str)
    try:
        table = pd.read_csv(path, dtype=text, keep_default_na=False)
        words = [name for name in WORDS if name in table.columns]
        table = table.assign(**{name: table[name].map(unguarded) for name in words})
        check_scores(table)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing: restore it from git, or run snakemake, which makes it."
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no valid CSV ({error}): score the images again.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return table
