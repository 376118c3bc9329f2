"""A source of a few made-up runs, in place of a study's files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.types import SCORE_TABLE_COLUMNS, Split
from aeflow.scoring.predictions import SeedScores
from aeflow.study.cells import Cell
from aeflow.study.study import Study

METRICS = ["val_auroc", "image_auroc", "f1", "oracle_f1", "pixel_auroc", "aupro"]
COST = ["fit_seconds", "peak_rss_mib"]


def small_study(**content: Any) -> Study:
    """A study of one dataset, `tiles`, with two seeds, unless told otherwise."""
    return Study(**({"datasets": [{"name": "tiles", "card": "btad"}], "seeds": [0, 1]} | content))


class SmallSource:
    """What aeflow.questions.source.Source offers, from memory.

    Args:
        study: the configuration.
        runs: metrics; with `results`, the rows of that table as well.
        tables: score tables, whose column `score` is what predictions give.
        histories: of the trainings.
        gallery: of every cell.
    """

    def __init__(
        self,
        study: Study,
        runs: Sequence[dict[str, Any]] = (),
        tables: Mapping[Cell, pd.DataFrame] | None = None,
        histories: Sequence[dict[str, Any]] = (),
        gallery: dict[str, Any] | None = None,
    ) -> None:
        self.study, self._runs, self._tables = study, list(runs), dict(tables or {})
        self._histories, self._gallery = list(histories), gallery

    def runs(self) -> list[dict[str, Any]]:
        return self._runs

    def metrics_of(self, cell: Cell) -> dict[str, Any]:
        (found,) = [
            run for run in self._runs if all(run[k] == v for k, v in cell._asdict().items())
        ]
        return found

    def table(self, name: str) -> pd.DataFrame:
        assert name == "results"
        columns = [*Cell._fields, *METRICS, *COST]
        table = pd.DataFrame(self._runs, columns=columns)
        texts = dict.fromkeys(Cell._fields[:3], "str") | {"seed": "Int64"}
        return table.astype(dict.fromkeys([*METRICS, *COST], "float64") | texts)

    def scores(self, cell: Cell) -> pd.DataFrame:
        return self._tables[cell].drop(columns="score")

    def predictions(self, split: Split, cells: Sequence[Cell]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for cell in cells:
            table = self._tables[cell]
            own = table[table["split"] == split]
            categories = found.setdefault(cell.dataset, {}).setdefault(cell.variant, {})
            score = own["score"].to_numpy()[:, None]
            if cell.category in categories:
                score = np.hstack([categories[cell.category].score, score])
            categories[cell.category] = SeedScores(own[[*SCORE_TABLE_COLUMNS]], score)
        return found

    def trainings(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        seeds = [cell.seed for cell in cells]
        return [training for training in self._histories if training["seed"] in seeds]

    def gallery(self, cell: Cell) -> dict[str, Any]:
        assert self._gallery is not None
        return self._gallery
