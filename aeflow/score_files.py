"""A score table and the JSON beside it."""

from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.files import sha256_file, write_json, write_text


def write_scores(
    path: Path, beside: Path, table: pd.DataFrame, pixel: dict[str, Any], **origin: str
) -> None:
    """Write a score table as CSV, and beside it the JSON that binds it to what it was made from.

    Args:
        path: CSV to write.
        beside: JSON to write.
        table: one row per image (aeflow.types.SCORE_TABLE_COLUMNS, then components).
        pixel: metrics of the anomaly maps, empty where there are none.
        origin: more facts for the JSON, for example the checkpoint's SHA-256.
    """
    write_text(path, table.to_csv(index=False))
    write_json(beside, {"pixel": pixel, "scores_sha256": sha256_file(path), **origin})
