"""Scores of a study's variants, seed beside seed, from its score tables."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import Field

from aeflow.core.schema import Strict, validate
from aeflow.core.types import Method, Split
from aeflow.scoring.combine import Scores, check_same_images, pred_scores
from aeflow.scoring.score_tables import read_cell_scores
from aeflow.study.cells import Cell
from aeflow.study.settings import ScoreSettings


class Scoring(Strict):
    """How the scores of some variants of a dataset come about."""

    dataset: str
    method: Method
    score: ScoreSettings
    tables: dict[str, str] = Field(description="Variant -> the variant whose tables it reads.")


@dataclass(frozen=True)
class SeedScores:
    """Scores of a variant on the images of one category and split.

    Attributes:
        images: (N rows) the first columns of a score table.
        score: (N, S) of S seeds, higher is more anomalous.
    """

    images: pd.DataFrame
    score: Scores

    @property
    def labelled(self) -> tuple[Scores, Scores]:
        """Labels (N,) and scores (N, S)."""
        return self.images["gt_label"].to_numpy(int), self.score


# Dataset -> variant -> category, each in the study's order.
Scored = dict[str, dict[str, dict[str, SeedScores]]]


def load_scorings(text: str) -> list[Scoring]:
    """Read a JSON list of `Scoring`.

    Raises:
        ConfigError: it is wrong.
    """
    return [validate(Scoring, content, "--scorings") for content in json.loads(text)]


def read_scored(
    folder: Path, cells: Sequence[Cell], scorings: Sequence[Scoring], split: Split
) -> Scored:
    """Return the scores of all variants on the images of one split.

    Args:
        folder: `results/<study>`.
        cells: what to read.
        scorings: the method and score settings of each variant of `cells`.
        split: whose images; standardised scores still rest on the validation normals.

    Raises:
        DataError: a table is missing or wrong, or variants were scored on other images.
    """
    known = {(scoring.dataset, name): scoring for scoring in scorings for name in scoring.tables}
    tables: dict[Cell, pd.DataFrame] = {}  # variants that share a training share its tables
    seeds: dict[Cell, list[pd.DataFrame]] = {}
    for cell in cells:
        trained = known[cell.dataset, cell.variant].tables[cell.variant]
        scored = cell._replace(variant=trained)
        if scored not in tables:
            tables[scored] = read_cell_scores(folder, scored)
        seeds.setdefault(cell._replace(seed=0), []).append(tables[scored])
    found: Scored = {}
    first: dict[tuple[str, str], pd.DataFrame] = {}
    for (dataset, category, variant, _), own in seeds.items():
        check_same_images([first.setdefault((dataset, category), own[0]), own[0]])
        scoring = known[dataset, variant]
        score = pred_scores(own, scoring.method, scoring.score)
        rows = (own[0]["split"] == split).to_numpy()
        categories = found.setdefault(dataset, {}).setdefault(variant, {})
        categories[category] = SeedScores(own[0][rows], score[rows])
    return found
