"""Scores of variants as the comparisons read them."""

import json

import numpy as np
import pandas as pd
import pytest

from aeflow.core.errors import ConfigError, DataError
from aeflow.core.types import Split
from aeflow.scoring.predictions import load_scorings, read_scored
from aeflow.study.cells import Cell
from tests.unit.cell_scores import save_scores


def draw_scores(folder, cell, seed, images=("v0", "v1", "v2", "t0", "t1", "t2")):
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "image_id": images,
            "split": ["validation"] * 3 + ["test"] * 3,
            "gt_label": [0, 0, 1, 0, 1, 1],
            "defect": "good",
            "density": generator.normal(size=6),
            "ssim": generator.normal(size=6),
        }
    )
    save_scores(folder, cell, table)
    return table


def scorings(**tables):
    settings = {"dataset": "tiles", "method": "aeflow", "score": {"beta": 0.25}}
    return load_scorings(json.dumps([settings | {"tables": tables}]))


def test_seeds_stand_side_by_side_and_variants_share_tables(tmp_path):
    made = [draw_scores(tmp_path, Cell("tiles", "a", "x", seed), seed) for seed in (3, 5)]
    cells = [Cell("tiles", "a", name, seed) for name in ("x", "y") for seed in (3, 5)]
    found = read_scored(tmp_path, cells, scorings(x="x", y="x"), Split.TEST)
    gt_label, score = found["tiles"]["x"]["a"].labelled
    assert gt_label.tolist() == [0, 1, 1]
    expected = [(0.25 * t["density"] + 0.75 * t["ssim"])[3:] for t in made]
    np.testing.assert_allclose(score, np.column_stack(expected), rtol=1e-12)
    np.testing.assert_array_equal(found["tiles"]["y"]["a"].score, score)
    validation = read_scored(tmp_path, cells, scorings(x="x", y="x"), Split.VALIDATION)
    assert validation["tiles"]["x"]["a"].images["image_id"].tolist() == ["v0", "v1", "v2"]


def test_variants_of_other_images_are_not_compared(tmp_path):
    draw_scores(tmp_path, Cell("tiles", "a", "x", 0), 0)
    draw_scores(tmp_path, Cell("tiles", "a", "y", 0), 0, ("v0", "v1", "v2", "t0", "t9", "t2"))
    cells = [Cell("tiles", "a", name, 0) for name in ("x", "y")]
    with pytest.raises(DataError, match="image_id of image 't1'"):
        read_scored(tmp_path, cells, scorings(x="x", y="y"), Split.TEST)


def test_a_mistake_in_the_settings_is_named():
    with pytest.raises(ConfigError, match=r"--scorings: unknown key 'score\.betta'"):
        load_scorings(
            '[{"dataset": "d", "method": "flow", "score": {"betta": 1}, "tables": {"a": "a"}}]'
        )
