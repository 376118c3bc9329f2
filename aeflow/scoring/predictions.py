"""Scores of a study's variants, seed beside seed, from its score tables."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from aeflow.core.errors import DataError
from aeflow.core.types import Split
from aeflow.scoring.combine import Scores, check_same_images, pred_score
from aeflow.scoring.score_tables import read_scores
from aeflow.study.cells import Cell, path, statistics_of, table_of
from aeflow.study.study import Study

logger = logging.getLogger(__name__)


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
Predictions = dict[str, dict[str, dict[str, SeedScores]]]


def read_predictions(study: Study, cells: Sequence[Cell], split: Split) -> Predictions:
    """Return the scores of variants on the images of one split, each score table read once.

    Args:
        cells: what to read; the seeds of a variant become columns.
        split: whose images; standardised scores still rest on the validation normals.

    A variant whose score cannot be combined on a category has no predictions on the dataset: its
    metrics say why, and the others are compared without it.

    Raises:
        DataError: a table is missing or wrong, or variants were scored on other images.
    """
    read = cache(read_scores)  # variants that share a training share its tables
    seeds: dict[Cell, list[Cell]] = {}
    for cell in cells:
        seeds.setdefault(cell._replace(seed=0), []).append(cell)
    found: Predictions = {}
    first: dict[tuple[str, str], pd.DataFrame] = {}
    without: set[tuple[str, str]] = set()
    for (dataset, category, variant, _), own in seeds.items():
        tables = [read(path(study, "scores", table_of(study, cell))) for cell in own]
        check_same_images([first.setdefault((dataset, category), tables[0]), *tables])
        method, score = study.variant(variant).method, study.cell(dataset, variant).score
        statistics = None
        if score.correct != "none":
            statistics = read(path(study, "scores", statistics_of(study, own[0])))
        try:
            columns = [pred_score(table, method, score, statistics) for table in tables]
        except DataError as error:
            logger.warning("%s on %s, %s has no score: %s", variant, dataset, category, error)
            without.add((dataset, variant))
            continue
        rows = (tables[0]["split"] == split).to_numpy()
        categories = found.setdefault(dataset, {}).setdefault(variant, {})
        categories[category] = SeedScores(tables[0][rows], np.column_stack(columns)[rows])
    for dataset, variant in without:
        found.get(dataset, {}).pop(variant, None)
    return found
