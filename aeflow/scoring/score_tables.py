"""A score table, and the JSON that binds it to what it was made from.

The table is payload, which git does not keep; rules and results rest on the JSON.
"""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.files import sha256_file, write_json, write_text
from aeflow.core.receipts import Scored, read_recorded
from aeflow.core.types import ANOMALOUS, NORMAL, SCORE_TABLE_COLUMNS, Split
from aeflow.scoring.combine import component, components
from aeflow.study.cells import Cell


def check_scores(table: pd.DataFrame) -> None:
    """Check the columns, splits, labels, identities and components of a score table.

    Raises:
        DataError: names the first image that is wrong.
    """
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


def write_scores(
    path: Path, scored: Path, table: pd.DataFrame, pixel: dict[str, Any], **origin: str
) -> None:
    """Write a score table as CSV, and the JSON that binds it.

    Args:
        path: CSV to write.
        scored: JSON to write.
        table: one row per image (aeflow.core.types.SCORE_TABLE_COLUMNS, then components).
        pixel: metrics of the anomaly maps, empty where there are none.
        origin: more facts for the JSON, for example the checkpoint's SHA-256.
    """
    write_text(path, table.to_csv(index=False))
    write_json(scored, {"pixel": pixel, "scores_sha256": sha256_file(path), **origin})


def read_scores(path: Path, scored: Path) -> pd.DataFrame:
    """Read and check a score table.

    Args:
        path: CSV.
        scored: the JSON of `write_scores`.

    Raises:
        DataError: a file is missing or damaged, the table is not the one that the JSON describes,
            or no score table (`check_scores`).
    """
    sha256 = read_recorded(scored, Scored)["scores_sha256"]
    bring = f"`dvc pull {path}` brings it if the study was shared; or delete {scored} and run "
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(f"It is not the table that {scored} describes: {bring}snakemake.")
        # A defect may be called "NA"; the broken numbers are found by check_scores.
        text = dict.fromkeys(("image_id", "split", "defect"), str)
        table = pd.read_csv(BytesIO(content), dtype=text, keep_default_na=False)
        check_scores(table)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: {bring}snakemake.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no valid CSV ({error}): score the images again.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return table


def read_cell_scores(folder: Path, cell: Cell) -> pd.DataFrame:
    """Read the score table of a cell.

    Args:
        folder: `results/<study>`.
        cell: one that has a score table of its own (`aeflow.study.cells.scored_as`).

    Raises:
        DataError: as for `read_scores`.
    """
    return read_scores(cell.file(folder / "scores", "csv"), cell.file(folder / "scored", "json"))
