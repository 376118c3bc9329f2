"""What is logged, as the loggers themselves read it."""

from pathlib import Path

import pytest
import yaml

from aeflow.core.errors import ConfigError
from aeflow.core.files import read_json
from aeflow.questions.source import Source
from aeflow.report import loggers
from aeflow.report.loggers import check_loggers, write_logs
from aeflow.study import cells
from aeflow.study.study import Study
from tests.unit.small_results import small_study

NAME = "chest_xray/all/flow/seed1"
CELL = cells.Cell("chest_xray", "all", "flow", 1)


def test_tensorboard_reads_losses_by_epoch_and_metrics(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    write_logs(study, "tensorboard", tmp_path)
    assert {
        file.parent.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("events*")
    } == {cells.CELL.format(**cell._asdict()) for cell in cells.study_cells(study)}
    events = EventAccumulator(str(tmp_path / NAME)).Reload()
    losses = events.Tensors("val_loss")
    assert [(e.step, make_ndarray(e.tensor_proto).item()) for e in losses] == [(1, 2.0), (2, 1.0)]
    wanted = Source(study, {"metrics"}, [CELL]).metrics_of(CELL)["image_auroc"]
    (found,) = events.Tensors("test/image_auroc")
    assert make_ndarray(found.tensor_proto).item() == pytest.approx(wanted)


def test_dvclive_writes_settings_losses_and_metrics(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("dvclive")
    write_logs(study, "dvclive", tmp_path)
    own = tmp_path / NAME
    settings = study.cell(CELL.dataset, CELL.variant).model_dump(mode="json")
    assert yaml.safe_load((own / "params.yaml").read_text()) == settings
    assert len((own / "plots/metrics/train_loss.tsv").read_text().splitlines()) == 1 + 2
    wanted = Source(study, {"metrics"}, [CELL]).metrics_of(CELL)
    found = read_json(own / "metrics.json")
    assert found["val_loss"] == 1.0
    assert found["test"]["f1"] == pytest.approx(wanted["f1"])


def test_a_logger_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    check_loggers(small_study())
    with pytest.raises(ConfigError, match=r"tensorboard is not installed: `pip install -e '.\[l"):
        check_loggers(small_study(loggers=["tensorboard"]))


def test_who_is_told_makes_nothing_else_again() -> None:
    told, plain = small_study(loggers=["dvclive"]), small_study()
    assert cells.digest_of_shown(told) == cells.digest_of_shown(plain)
    for cell in cells.score_tables(plain):
        if plain.variant(cell.variant).method.fitted:
            given = cell._asdict()
            assert cells.asked(told, "train_model", given) == cells.asked(
                plain, "train_model", given
            )
