"""What came out, for the programs in which people follow and compare their trainings.

Each cell of a study is a run there: losses by epoch, metrics, and settings where the program
takes any (TensorBoard does not). All this is in files that the study has anyway, so to ask for a
logger trains nothing.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from aeflow.core.errors import ConfigError
from aeflow.display.table import METRICS
from aeflow.questions.source import Source
from aeflow.study.cells import CELL, Cell, path, study_cells, table_of
from aeflow.study.study import Logger, Study


class Logged(NamedTuple):
    """One cell of a study."""

    name: str
    settings: dict[str, Any]  # section -> key -> value
    losses: pd.DataFrame  # a row per epoch, which is the index
    metrics: dict[str, float]  # of the test, shares in [0, 1], and the threshold


def write_logs(study: Study, logger: Logger, folder: Path) -> None:
    """Write every cell as a run of a logger, in a folder of its own.

    Raises:
        DataError: a file is missing or damaged.
    """
    for run in _logged(study):
        WRITE[logger](run, folder / run.name)


def check_loggers(study: Study) -> None:
    """Check that the loggers of a study are installed; ConfigError: one is not."""
    for name in study.loggers:
        if find_spec(name) is None:
            raise ConfigError(
                f"loggers: {name} is not installed: `pip install -e '.[loggers]'`, or leave it "
                "out."
            )


def log_inputs(study: Study) -> list[Path]:
    """Return the files that runs are made of."""
    return [
        path(study, name, table_of(study, cell))
        for cell in study_cells(study)
        for name in ("metrics", *(("trained", "history") if _trained(study, cell) else ()))
    ]


def _trained(study: Study, cell: Cell) -> bool:
    return study.variant(cell.variant).method.fitted


def _logged(study: Study) -> Iterator[Logged]:
    cells = study_cells(study)
    source = Source(study, {"metrics", "train"}, cells)
    for cell in cells:
        found, losses = source.metrics_of(cell), pd.DataFrame()
        if _trained(study, cell):
            losses = source.trainings([cell])[0]["history"].set_index("epoch")
        metrics = {n: float(found[n]) for n in (*METRICS, "threshold") if found[n] is not None}
        settings = study.cell(cell.dataset, cell.variant).model_dump(mode="json")
        yield Logged(CELL.format(**cell._asdict()), settings, losses, metrics)


def _write_tensorboard(run: Logged, folder: Path) -> None:
    from tensorboard.summary import Writer

    writer = Writer(str(folder))
    for epoch, losses in run.losses.iterrows():
        for name, value in losses.dropna().items():
            writer.add_scalar(str(name), value, int(str(epoch)))
    for name, value in run.metrics.items():
        writer.add_scalar(f"test/{name}", value, 0)
    writer.close()


def _write_dvclive(run: Logged, folder: Path) -> None:
    from dvclive import Live

    with Live(str(folder), report=None, save_dvc_exp=False, dvcyaml=None) as live:
        live.log_params(run.settings)
        for epoch, losses in run.losses.iterrows():
            live.step = int(str(epoch))
            for name, value in losses.dropna().items():
                live.log_metric(str(name), value)
            live.make_summary()
        for name, value in run.metrics.items():
            live.log_metric(f"test/{name}", value, plot=False)


WRITE: dict[Logger, Callable[[Logged, Path], None]] = {
    "dvclive": _write_dvclive,
    "tensorboard": _write_tensorboard,
}
