"""Score tables as files: to the last bit, and none but the one that the JSON describes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aeflow.core.errors import DataError
from aeflow.core.files import sha256_file, write_json
from aeflow.scoring.score_tables import read_cell_scores, read_scores, write_scores
from aeflow.study.cells import Cell
from tests.unit.cell_scores import save_scores


@pytest.fixture
def table() -> pd.DataFrame:
    generator = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "image_id": ["0001", "b", "c", "d"],
            "split": ["validation", "validation", "test", "test"],
            "gt_label": [0, 1, 0, 1],
            "defect": ["good", "NA", "good", "crack"],
            "density": generator.random(4) / 3,
            "ssim": generator.random(4) / 3,
        }
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "scores.csv", tmp_path / "scored.json"


def test_scores_survive_the_file_to_the_last_bit(
    table: pd.DataFrame, files: tuple[Path, Path]
) -> None:
    write_scores(*files, table, pixel={})
    pd.testing.assert_frame_equal(read_scores(*files), table, check_exact=True)


def test_a_cells_table_is_found_below_the_results(table: pd.DataFrame, tmp_path: Path) -> None:
    cell = Cell("tiles", "all", "aeflow", 3)
    save_scores(tmp_path, cell, table)
    assert (tmp_path / "scores/tiles/all/aeflow/seed3.csv").is_file()
    assert (tmp_path / "scored/tiles/all/aeflow/seed3.json").is_file()
    pd.testing.assert_frame_equal(read_cell_scores(tmp_path, cell), table)


def test_another_table_than_the_json_describes_is_refused(
    table: pd.DataFrame, files: tuple[Path, Path]
) -> None:
    """As after `git pull` without `dvc pull`."""
    write_scores(*files, table, pixel={})
    table["density"] += 1
    table.to_csv(files[0], index=False)
    with pytest.raises(DataError, match=r"scores\.csv: It is not the table that .*scored\.json"):
        read_scores(*files)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c,test,0,good,", "c,test,0,good,nan,", "valid CSV"),
        ("c,test,0,", "c,test,,", "'c' has a label other"),
        ("c,test,0,good,0.5", "c,test,0,good,", "has density = ,"),
        ("c,test,0,good,0.5", "c,test,0,good,nan", "density = nan"),
        ("c,test,0,good,0.5", "c,test,0,good,x", "has density = x"),
    ],
)
def test_broken_tables_are_named(
    table: pd.DataFrame, files: tuple[Path, Path], old: str, new: str, message: str
) -> None:
    table.loc[2, "density"] = 0.5
    text = table.to_csv(index=False)
    assert old in text
    save_text(files, text.replace(old, new))
    with pytest.raises(DataError, match=rf"scores\.csv.*{message}"):
        read_scores(*files)


def save_text(files: tuple[Path, Path], text: str) -> None:
    """Write a text as if it were a score table."""
    files[0].write_text(text)
    write_json(files[1], {"pixel": {}, "scores_sha256": sha256_file(files[0])})


def test_missing_and_empty_tables_are_named(files: tuple[Path, Path]) -> None:
    save_text(files, "")
    with pytest.raises(DataError, match=r"scores\.csv is no valid CSV"):
        read_scores(*files)
    files[0].unlink()
    with pytest.raises(DataError, match=r"scores\.csv is missing: `dvc pull "):
        read_scores(*files)
    files[1].unlink()
    with pytest.raises(DataError, match=r"scored\.json is missing"):
        read_scores(*files)
