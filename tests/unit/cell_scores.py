"""Score tables as a study has them."""

from pathlib import Path

import pandas as pd

from aeflow.scoring.score_tables import write_scores
from aeflow.study.cells import Cell


def save_scores(folder: Path, cell: Cell, table: pd.DataFrame) -> None:
    """Write a cell's score table, and the JSON that binds it, below a study's results."""
    scores, scored = cell.file(folder / "scores", "csv"), cell.file(folder / "scored", "json")
    write_scores(scores, scored, table, pixel={})
