"""Runs small enough to check by hand, and a source that has them in memory."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import pandas as pd

from aeflow.core.types import Split
from aeflow.display.table import DisplayTable, typed
from aeflow.questions.source import Published
from aeflow.report.contents import TABLES
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
    }
    return run | changes


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
