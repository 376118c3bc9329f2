"""Scores of variants as the comparisons read them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aeflow.core.errors import DataError
from aeflow.core.types import Split
from aeflow.scoring import predictions
from aeflow.scoring.predictions import read_predictions
from aeflow.scoring.score_tables import write_scores
from aeflow.study.cells import Cell, path
from aeflow.study.study import Study

IMAGES = ("v0", "v1", "v2", "v3", "v4", "t0", "t1", "t2")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return Study.model_validate(
        {
            "seeds": [3, 5],
            "datasets": [{"name": "tiles", "card": "folder_mvtec", "categories": ["a"]}],
            "variants": [
                {"name": "x", "settings": {"score": {"beta": 0.25}}},
                {"name": "y", "settings": {"score": {"beta": 1, "correct": "complexity"}}},
                {"name": "p", "method": "padim"},
                {"name": "low", "method": "gradient"},
            ],
        }
    )


def draw_scores(study: Study, variant: str, seed: int, images=IMAGES) -> pd.DataFrame:
    generator = np.random.default_rng([seed, len(variant)])
    table = pd.DataFrame(
        {
            "image_id": images,
            "split": ["validation"] * 5 + ["test"] * 3,
            "gt_label": [0, 0, 0, 0, 1, 0, 1, 1],
            "defect": "good",
        }
    )
    names = {"x": ["density", "ssim"], "p": ["padim"]}
    for name in names.get(variant, ["compressed_bits", "high_gradient", "low_gradient"]):
        table[name] = generator.normal(size=8)
    write_scores(path(study, "scores", Cell("tiles", "a", variant, seed)), table)
    return table


def test_seeds_stand_side_by_side_and_tables_are_read_once(study, monkeypatch):
    made = [draw_scores(study, "x", seed) for seed in (3, 5)]
    statistics = draw_scores(study, "low", 3)
    read = []
    monkeypatch.setattr(
        predictions,
        "read_scores",
        lambda file, f=predictions.read_scores: read.append(file) or f(file),
    )
    cells = [Cell("tiles", "a", name, seed) for name in ("x", "y") for seed in (3, 5)]
    cells.append(Cell("tiles", "a", "low", 3))
    found = read_predictions(study, cells, Split.TEST)["tiles"]
    assert list(found) == ["x", "y", "low"]
    gt_label, score = found["x"]["a"].labelled
    assert gt_label.tolist() == [0, 1, 1]
    expected = [(0.25 * t["density"] + 0.75 * t["ssim"])[5:] for t in made]
    np.testing.assert_allclose(score, np.column_stack(expected), rtol=1e-5)
    design = np.column_stack([np.ones(8), statistics[["compressed_bits", "high_gradient"]]])
    for table, column in zip(made, found["y"]["a"].score.T, strict=True):
        weights = np.linalg.lstsq(design[:4], table["density"][:4], rcond=None)[0]
        np.testing.assert_allclose(column, (table["density"] - design @ weights)[5:], atol=1e-5)
    np.testing.assert_allclose(found["low"]["a"].score[:, 0], statistics["low_gradient"][5:], 1e-6)
    assert len(read) == len(set(read)) == 3
    validation = read_predictions(study, cells, Split.VALIDATION)["tiles"]
    assert validation["x"]["a"].images["image_id"].tolist() == list(IMAGES[:5])


def test_variants_of_other_images_are_not_compared(study):
    for seed in (3, 5):
        draw_scores(study, "x", seed)
    draw_scores(study, "p", 3, (*IMAGES[:-1], "t9"))
    cells = [Cell("tiles", "a", "x", 3), Cell("tiles", "a", "x", 5), Cell("tiles", "a", "p", 3)]
    with pytest.raises(DataError, match="image_id of image 't2'"):
        read_predictions(study, cells, Split.TEST)
    with pytest.raises(DataError, match=r"p/seed5\.csv is missing"):
        read_predictions(study, [Cell("tiles", "a", "p", 5)], Split.TEST)
