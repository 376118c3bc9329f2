"""Score tables as files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aeflow.core.errors import DataError
from aeflow.scoring.score_tables import check_scores, read_scores, write_scores


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": ["0001", "b", "c", "d"],
            "split": ["validation", "validation", "test", "test"],
            "gt_label": [0, 1, 0, 1],
            "defect": ["good", "NA", "good", "crack"],
            "density": [-1 / 3, 2e-9 / 3, 0.5, 1234567.89],
            "ssim": np.random.default_rng(3).random(4),
        }
    )


def test_a_spreadsheet_takes_no_name_for_a_formula(table: pd.DataFrame, tmp_path: Path) -> None:
    table["defect"] = ['=HYPERLINK("http://x.org")', "+", "'x", "-2+3"]
    table["image_id"] = ["@SUM(1)", "-0001", "c", "toy/=1"]
    write_scores(tmp_path / "scores.csv", table)
    raw = pd.read_csv(tmp_path / "scores.csv", dtype=str)
    assert raw["defect"].tolist() == ["'" + name for name in table["defect"]]
    assert raw["image_id"].tolist() == ["'@SUM(1)", "-0001", "c", "toy/=1"]
    pd.testing.assert_frame_equal(read_scores(tmp_path / "scores.csv"), table, rtol=5e-7)


def test_seven_digits_survive_the_file_and_nothing_else_changes(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "scores.csv"
    write_scores(path, table)
    lines = path.read_bytes().split(b"\n")
    assert lines[0] == b"image_id,split,gt_label,defect,density,ssim"
    assert lines[1].startswith(b"0001,validation,0,good,-0.3333333,0.")
    assert [line.split(b",")[4] for line in lines[2:5]] == [b"6.666667e-10", b"0.5", b"1234568"]
    found = read_scores(path)
    pd.testing.assert_frame_equal(found, table, rtol=5e-7)
    write_scores(tmp_path / "again.csv", found)
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("c,test,0,good,", "c,test,0,good,nan,", "is no valid CSV"),
        ("c,test,0,", "c,test,,", ": Image 'c' has a label other than 0 and 1"),
        ("c,test,0,", "c,test,2,", ": Image 'c' has a label other than 0 and 1"),
        ("c,test,", "c,train,", ": Image 'c' is not of validation or test"),
        ("c,test,", "b,test,", ": Image 'b' stands there twice"),
        ("c,test,0,good,0.5", "c,test,0,good,", ": Image 'c' has density = ,"),
        ("c,test,0,good,0.5", "c,test,0,good,nan", ": Image 'c' has density = nan"),
        ("c,test,0,good,0.5", "c,test,0,good,x", ": Image 'c' has density = x"),
        ("gt_label,defect", "label,kind", ": The score table has no column gt_label, defect"),
    ],
)
def test_broken_tables_are_named(
    table: pd.DataFrame, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "scores.csv"
    write_scores(path, table)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=rf"scores\.csv{message}|scores\.csv {message}"):
        read_scores(path)


def test_missing_and_empty_tables_are_named(table: pd.DataFrame, tmp_path: Path) -> None:
    check_scores(table)
    path = tmp_path / "scores.csv"
    with pytest.raises(DataError, match=r"scores\.csv is missing: restore it from git"):
        read_scores(path)
    for content in (b"", b"\xff\xfe,\xff"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"scores\.csv is no valid CSV"):
            read_scores(path)
