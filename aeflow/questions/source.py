"""What a table or a figure may read: metrics, scores, trainings, tables, numbers of others."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import Field, model_validator

from aeflow.core.errors import DataError
from aeflow.core.receipts import read_receipt
from aeflow.core.schema import Name, Strict, WebPage, load_yaml, validate
from aeflow.core.types import Split
from aeflow.display.figure import Look, looks
from aeflow.display.table import METRICS, read_table
from aeflow.judging.metrics import READINGS
from aeflow.judging.over_seeds import over_seeds
from aeflow.scoring.gallery import read_pictures
from aeflow.scoring.predictions import Predictions, read_predictions
from aeflow.scoring.score_tables import read_scores
from aeflow.study.cards import PUBLISHED
from aeflow.study.cells import Cell, encoder_of, path, table_of
from aeflow.study.study import Study

Run = dict[str, Any]
_NUMBERS = [
    *(*METRICS, *READINGS, "threshold", "oracle_threshold", "val_auroc"),
    *("n_train", "n_val_normal", "n_val_anomalous", "n_test_normal", "n_test_anomalous"),
    *("fit_seconds", "best_epoch", "peak_rss_mib"),
]
_OTHERS = ["threshold_rule", "certainty", "reasons", "intervals", "operating", "per_defect"]
_OTHERS += ["components"]
Percent = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?$")]


class Publication(Strict):
    """Who published numbers, and why they are not the same experiment."""

    title: str
    citation: str
    url: WebPage
    threshold: Literal["not stated", "validation", "test (oracle)"] = Field(
        description="Images the threshold was fitted on."
    )
    differs: str = Field(description="What differs from this pipeline, in sentences.")


class PublishedNumbers(Strict):
    """Numbers of one source on one dataset, in percent, as printed there."""

    dataset: Name
    who: str
    detail: str = ""
    image_auroc: Percent | None = None
    f1: Percent | None = None
    accuracy: Percent | None = None
    sensitivity: Percent | None = None
    specificity: Percent | None = None
    remark: str = ""


class Published(Strict):
    """`config/published.yaml`."""

    sources: dict[str, Publication]
    numbers: list[PublishedNumbers]

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = sorted({row.who for row in self.numbers} - self.sources.keys())
        if unknown:
            raise ValueError(f"numbers name {', '.join(unknown)}, which is not in sources")
        return self


def load_published(file: Path = PUBLISHED) -> Published:
    """Read and validate the published numbers; ConfigError: the file is missing or wrong."""
    return validate(Published, load_yaml(file), str(file))


class Source:
    """What one table or figure reads: no more than its entry in the contents declares.

    Its rule has these files, and no others, as inputs: what it would read besides, a change of
    which would make nothing again, is refused.

    Args:
        reads: names of kinds of files, and of tables (aeflow.report.contents).
        cells: those that it is about.
        missing: of an incomplete study, the cells without a result, each with the reason.
        make: makes a table of an incomplete study, whose file may be an earlier run's.
    """

    def __init__(
        self,
        study: Study,
        reads: Collection[str],
        cells: Sequence[Cell],
        missing: Mapping[Cell, str] | None = None,
        make: Callable[[str], pd.DataFrame] | None = None,
    ) -> None:
        self.study, self.cells, self.missing = study, list(cells), dict(missing or {})
        self._reads, self._known, self._make = set(reads), set(cells), make
        self._receipt = cache(read_receipt)

    def runs(self) -> list[Run]:
        """Return what `metrics_of` does, of every cell."""
        return [self.metrics_of(cell) for cell in self.cells]

    def metrics_of(self, cell: Cell) -> Run:
        """Return what there is to know of a cell, flat, for a row of a table.

        Returns:
            dataset, category, variant, seed, method, encoder, the metrics (None where there is
            none), intervals, reasons, operating, per_defect, certainty, components, counts of
            images, cost, and the settings of score, threshold and evaluation. A run without a
            result has NaN for every number, and `reason` says why.
        """
        self._declared("metrics", [cell])
        if cell in self.missing:
            return self._without_result(cell)
        file = self._path("metrics", cell)
        receipt = self._receipt(file)
        facts = dict(receipt.facts)
        run: Run = cell._asdict() | facts | facts.pop("variants", {}).get(cell.variant, {})
        if lacking := sorted({"method", "encoder", *_NUMBERS, *_OTHERS} - run.keys()):
            raise DataError(
                f"{file} lacks {', '.join(lacking)} of {cell.variant}: delete it and run "
                "snakemake."
            )
        judged = receipt.settings["variants"][cell.variant]
        settings = {name: judged[name] for name in ("score", "threshold")}
        return run | {"settings": settings | {"evaluation": receipt.settings["evaluation"]}}

    def _without_result(self, cell: Cell) -> Run:
        reason = self.missing[cell]
        run = cell._asdict() | dict.fromkeys(_NUMBERS, float("nan"))
        run |= {"method": self.study.variant(cell.variant).method.value, "reason": reason}
        run |= {"encoder": encoder_of(self.study, cell.dataset, cell.variant)}
        run |= {"threshold_rule": None, "certainty": None, "intervals": {}, "operating": {}}
        run |= {"per_defect": {}, "components": {}}
        return run | {"reasons": dict.fromkeys(METRICS, reason)}

    def predictions(self, split: Split, cells: Sequence[Cell] | None = None) -> Predictions:
        """Return the scores of variants on one split (aeflow.scoring.predictions).

        A variant that lacks a result on a dataset is left out there: a mean over its other seeds
        or categories would be a mean of something else.
        """
        chosen = self.cells if cells is None else cells
        self._declared("scores", chosen)
        lacking = self.lacking()
        whole = [cell for cell in chosen if (cell.dataset, cell.variant) not in lacking]
        return read_predictions(self.study, whole, split)

    def lacking(self) -> dict[tuple[str, str], str]:
        """Return (dataset, variant) -> why it lacks a result there, of an incomplete study."""
        found: dict[tuple[str, str], dict[str, None]] = {}
        for cell, reason in self.missing.items():
            found.setdefault((cell.dataset, cell.variant), {})[reason] = None
        return {key: " ".join(reasons) for key, reasons in found.items()}

    def scores(self, cell: Cell) -> pd.DataFrame:
        """Return the score table of a cell."""
        self._declared("scores", [cell])
        return read_scores(self._path("scores", cell))

    def gallery(
        self,
        cell: Cell,
        images: Sequence[str] | None = None,
        maps: Collection[str] | None = None,
    ) -> dict[str, Any]:
        """Return pictures of test images of a cell, as `read_pictures` of aeflow.scoring.gallery.

        Arguments are those of it: some images, some maps; None: all.
        """
        self._declared("galleries", [cell])
        return read_pictures(self._path("gallery", cell), images, maps)

    def trainings(self, cells: Sequence[Cell] | None = None) -> list[dict[str, Any]]:
        """Return what is known of trainings, of cells that have a result.

        Returns:
            dataset, category, variant, seed, settings, versions, the facts of the receipt, as
            best_epoch, and `history`, the losses, a row per epoch.
        """
        chosen = self.cells if cells is None else cells
        self._declared("train", chosen)
        found = []
        for cell in [cell for cell in chosen if cell not in self.missing]:
            receipt = self._receipt(self._path("trained", cell))
            known = {"settings": receipt.settings["settings"], "versions": receipt.versions}
            known |= {"history": pd.read_csv(self._path("history", cell))}
            found.append(cell._asdict() | receipt.facts | known)
        return found

    def table(self, name: str) -> pd.DataFrame:
        """Return another table of the study."""
        self._declared(name)
        if self._make is not None:
            return self._make(name)
        return read_table(path(self.study, "csv", {"table": name}))

    def published(self) -> Published:
        """Return the numbers of others."""
        self._declared("published")
        return load_published()

    def _path(self, name: str, cell: Cell) -> Path:
        return path(self.study, name, table_of(self.study, cell))

    def _declared(self, name: str, cells: Sequence[Cell] = ()) -> None:
        """Refuse what the rule does not have as an input."""
        strange = [cell for cell in cells if cell not in self._known]
        if name not in self._reads or strange:
            of = f" of {'/'.join(map(str, strange[0]))}" if strange else ""
            raise DataError(
                f"This reads {name}{of}, which its line in the contents does not name: add it to "
                "`reads`, or to its cells, in aeflow/report/contents.py."
            )


def looks_on(study: Study, dataset: str) -> dict[str, Look]:
    """Return how the named variants are drawn in every figure of a dataset."""
    runs = [name for name in study.named if study.variant(name).runs_on(dataset)]
    return looks(runs, study.reference)


def means(rows: pd.DataFrame, by: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return mean, sd and interval over seeds; what a seed has several times is averaged first.

    So categories are averaged within a seed where `by` does not tell them apart. A value that one
    category or one seed lacks leaves the mean empty: a mean over the others would be a mean of
    something else.

    Returns:
        `by`, n_seeds, `<metric>_mean`, `_sd`, `_low`, `_high` (aeflow.judging.over_seeds).
    """
    groups = rows.groupby([*by, "seed"], sort=False)
    return over_seeds(groups[[*columns]].mean(skipna=False).reset_index(), by, columns)
