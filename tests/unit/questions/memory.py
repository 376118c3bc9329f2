"""Runs small enough to check by hand, and a source that has them in memory."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.types import SCORE_TABLE_COLUMNS, Split
from aeflow.display.table import DisplayTable, typed
from aeflow.judging.metrics import READINGS
from aeflow.questions.source import Published
from aeflow.report.contents import TABLES
from aeflow.scoring.predictions import SeedScores
from aeflow.study.cells import Cell
from aeflow.study.study import Study

Run = dict[str, Any]


def make_run(**changes: Any) -> Run:
    """The metrics of one run; keywords replace its values."""
    run = {
        **{"dataset": "tiles", "category": "all", "variant": "aeflow", "seed": 0},
        **{"method": "aeflow", "encoder": "tiny-stage3"},
        **{"image_auroc": 0.8, "image_aupr": 0.7, "f1": 0.6, "accuracy": 0.65},
        **{"sensitivity": 0.75, "specificity": 0.5, "threshold": 1.25, "threshold_rule": "f1_max"},
        **{"oracle_f1": 0.9, "oracle_threshold": 1.0, "val_auroc": 0.85},
        **{"pixel_auroc": None, "aupro": None, "n_train": 100},
        **{"n_val_normal": 20, "n_val_anomalous": 10, "n_test_normal": 30, "n_test_anomalous": 40},
        **{"fit_seconds": 12.5, "peak_rss_mib": 900.0, "best_epoch": 7, "certainty": None},
        **{"intervals": {"image_auroc": [0.75, 0.85]}, "reasons": {}, "components": {}},
        "per_defect": {"crack": {"n": 40, "image_auroc": 0.8}},
        "operating": {
            **{"asked": "highest F1", "n_fitted_normal": 20, "n_fitted_anomalous": 10},
            **{"val_sensitivity": 0.9, "val_specificity": 0.7},
        },
        **dict.fromkeys(READINGS),
    }
    return run | changes


def small_study(**content: Any) -> Study:
    """A study of one dataset, `tiles`, with two seeds, unless told otherwise."""
    default = {"datasets": [{"name": "tiles", "card": "btad"}], "seeds": [0, 1]}
    return Study.model_validate(default | content)


class Memory:
    """What `Source` offers, from memory: tables are made from the runs unless they are given."""

    def __init__(
        self,
        *runs: Run,
        study: Study | None = None,
        predictions: Mapping[Split, Any] | None = None,
        published: Published | None = None,
        **tables: pd.DataFrame,
    ) -> None:
        datasets = [{"name": name} for name in dict.fromkeys(run["dataset"] for run in runs)]
        methods = {run["variant"]: run["method"] for run in runs}
        variants = [{"name": name, "method": method} for name, method in methods.items()]
        self.study = study or Study.model_validate({"datasets": datasets, "variants": variants})
        self._runs, self._predictions, self._published = runs, predictions or {}, published
        self._tables, self.missing = tables, {}

    def runs(self) -> Sequence[Run]:
        return self._runs

    def predictions(self, split: Split) -> Any:
        return self._predictions[split]

    def published(self) -> Published:
        assert self._published is not None
        return self._published

    def table(self, name: str) -> pd.DataFrame:
        if name not in self._tables:
            module = import_module(f"aeflow.questions.{TABLES[name].module}")
            self._tables[name] = typed(getattr(module, f"{name}_table")(self))
        return self._tables[name]

    def shown(self, name: str) -> DisplayTable:
        module = import_module(f"aeflow.questions.{TABLES[name].module}")
        display: DisplayTable = getattr(module, f"{name}_display")(self.table(name), self)
        return display


class FigureMemory(Memory):
    """What figures read besides: score tables, a gallery, trainings.

    The column `score` of a score table is what predictions give.
    """

    def __init__(
        self, *runs: Run, scores: Sequence[pd.DataFrame] = (), gallery: Any = None
    ) -> None:
        super().__init__(*runs)
        self.cells = [Cell(*(run[name] for name in Cell._fields)) for run in runs]
        self._scores = dict(zip(self.cells, scores, strict=True))
        self._gallery = gallery

    def scores(self, cell: Cell) -> pd.DataFrame:
        return self._scores[cell].drop(columns="score")

    def predictions(self, split: Split) -> Any:
        found: dict[str, Any] = {}
        for (dataset, category, variant, _), table in self._scores.items():
            own = table[table["split"] == split]
            categories = found.setdefault(dataset, {}).setdefault(variant, {})
            before = [categories[category].score] if category in categories else []
            score = np.column_stack([*before, own["score"]])
            categories[category] = SeedScores(own[[*SCORE_TABLE_COLUMNS]], score)
        return found

    def gallery(self, cell: Cell, images: Sequence[str]) -> Any:
        assert cell in self.cells
        known = list(self._gallery["image_id"])
        rows = [known.index(name) for name in images]
        return {name: values[rows] for name, values in self._gallery.items()}
