"""A finished study from Python: `aeflow.load("results/demo")`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from numpy.typing import NDArray

from aeflow.core.errors import ConfigError, DataError
from aeflow.display.table import read_table
from aeflow.report import contents
from aeflow.scoring.combine import pred_score
from aeflow.scoring.gallery import read_pictures
from aeflow.scoring.score_tables import read_scores
from aeflow.study import cells
from aeflow.study.asked import JudgeAsked
from aeflow.study.cells import Cell, find_cell
from aeflow.study.study import Study, read_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aeflow.detector.detector import Detector


def load(folder: Path | str) -> "Results":
    """Return the results in a folder such as results/demo, as they lie there.

    Raises:
        DataError: there is no study in it.
    """
    return Results(Path(folder))


class Results:
    """Tables, scores, figures and detectors of a study. Paths are seen from its repository.

    >>> demo = load("results/demo")
    >>> demo.tables
    ['ablations', 'categories', ..., 'weighting']

    Attributes:
        study: the validated configuration.
    """

    study: Study

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.study = read_study(folder / "study.json")

    @property
    def tables(self) -> list[str]:
        """The names of the tables that are there."""
        return sorted(path.stem for path in (self.folder / "tables").glob("*.csv"))

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the report, such as `main` or `comparison`, shares between 0 and 1.

        >>> main = load("results/demo").table("main")
        >>> main.loc[main["variant"] == "recommended", "image_auroc_mean"].item() > 0.8
        True

        Raises:
            DataError: there is no such table.
        """
        if name not in self.tables:
            raise DataError(f"{self.folder} has no table '{name}', but {', '.join(self.tables)}.")
        return read_table(self.folder / "tables" / f"{name}.csv")

    def scores(
        self, dataset: str, variant: str, category: str | None = None, seed: int | None = None
    ) -> pd.DataFrame:
        """Return the validation and test images of a cell: identity, components, `pred_score`.

        >>> scores = load("results/demo").scores("demo_textures", "recommended", "brick")
        >>> scores.groupby("split")["gt_label"].max().to_dict()
        {'test': 1, 'validation': 0}

        Args:
            dataset: its name in the study.
            variant: its name in the study.
            category: where the dataset has several.
            seed: the study's first, unless told.

        Raises:
            ConfigError: there is no such cell.
            DataError: its score table is missing, or gives no score.
        """
        cell = find_cell(self.study, dataset, variant, category, seed)
        table = cells.table_of(self.study, cell)
        asked = cells.asked(self.study, "evaluate_scores", table._asdict())
        assert isinstance(asked, JudgeAsked)
        judged = asked.variants[variant]
        statistics = None
        if judged.score.correct != "none":
            behind = cells.statistics_of(self.study, cell)
            statistics = read_scores(self._path("scores", behind))
        found = read_scores(self._path("scores", table))
        scores = pred_score(found, judged.method, judged.score, statistics)
        return found.assign(pred_score=scores)

    def gallery(
        self, dataset: str, variant: str, category: str | None = None, seed: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return the test images of a cell: see `aeflow.scoring.gallery.read_pictures`.

        Raises:
            ConfigError: there is no such cell, or it is of a fusion, whose members have pictures.
            DataError: the gallery is missing.
        """
        cell = find_cell(self.study, dataset, variant, category, seed)
        if members := self.study.variant(variant).members:
            raise ConfigError(
                f"{variant} has no pictures; its members have: {', '.join(members)}."
            )
        return read_pictures(self._path("gallery", cells.table_of(self.study, cell)))

    def plot(self, name: str, *of: str) -> "Figure":
        """Return a figure of the report, drawn from the study's files.

        >>> roc = load("results/demo").plot("roc")
        >>> panels = load("results/demo").plot("panels", "demo_textures", "brick", "aeflow")
        >>> panels.savefig("panels.pdf")

        Args:
            name: such as `roc`, `panels`, `scores` or `training`.
            of: a dataset; of some figures a dataset, a category and a variant. Not needed where
                there is only one.

        Raises:
            DataError: the study has no such figure, or what it is made from is missing.
        """
        there = [words for figure, words in contents.figures(self.study) if figure == name]
        if not there:
            known = ", ".join(dict.fromkeys(figure for figure, _ in contents.figures(self.study)))
            raise DataError(f"The study {self.study.study} has no figure '{name}', but {known}.")
        wanted = "+".join(of) or (there[0] if len(there) == 1 else "")
        if wanted not in there:
            known = "; ".join(words.replace("+", ", ") for words in there)
            raise DataError(f"The figure '{name}' is there of: {known}.")
        return contents.draw(self.study, name, wanted).figure

    def detector(
        self, dataset: str, variant: str, category: str | None = None, seed: int | None = None
    ) -> "Detector":
        """Return what was trained, for new images; `aeflow pack` makes a file of the same.

        >>> import numpy as np
        >>> detector = load("results/demo").detector("demo_textures", "recommended", "brick")
        >>> detector.predict([np.zeros((200, 300), np.uint8)])  # black, which no brick is
        array([-1])

        Raises:
            ConfigError: there is no such cell.
            DataError, CheckpointError: something that it needs is not here (`dvc pull`).
        """
        from aeflow.detector.detector import Detector  # torch
        from aeflow.detector.pack import collect

        cell = find_cell(self.study, dataset, variant, category, seed)
        return Detector(*collect(self.study, cell))

    def _path(self, name: str, cell: Cell) -> Path:
        return cells.path(self.study, name, cell)
