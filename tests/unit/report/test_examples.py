"""Example pictures show what was found, missed and called anomalous for nothing."""

from io import BytesIO

import numpy as np
import pandas as pd
from PIL import Image

from aeflow.questions.source import Source
from aeflow.report import contents
from aeflow.report.examples import choose_examples, examples


def test_the_clearest_of_each_kind_of_several_categories_and_defects():
    rows = pd.DataFrame(
        [
            *[("hit1", 1, 5.0, "a", "crack"), ("hit2", 1, 4.0, "a", "crack")],
            *[("hit3", 1, 3.0, "a", "hole"), ("hit4", 1, 0.0, "b", "hole")],
            *[("miss1", 1, -1.0, "a", "crack"), ("miss2", 1, -2.0, "a", "crack")],
            *[("miss3", 1, -0.5, "a", "hole")],
            *[("alarm", 0, 0.1, "b", "good"), ("quiet", 0, -3.0, "b", "good")],
        ],
        columns=["image_id", "gt_label", "margin", "category", "defect"],
    )
    chosen = choose_examples(rows)
    assert chosen["image_id"].tolist() == ["hit1", "hit4", "miss2", "miss3", "alarm"]
    assert chosen["kind"].tolist() == ["found"] * 2 + ["missed"] * 2 + ["false alarm"]
    assert choose_examples(rows[rows["image_id"] == "quiet"]).empty


def test_the_pictures_of_a_study(study):
    cells = [c for c in contents.example_cells(study) if c.variant == "flow"]
    source = Source(study, {"metrics", "scores", "galleries"}, cells[1:])  # the tiles
    found = examples(source)
    assert {example.kind for example in found} <= {"found", "missed", "false alarm"}
    assert {example.name[:3] for example in found if example.kind == "found"} == {"01/", "02/"}
    for example in found:
        score, threshold = (
            float(part.split()[1].replace("−", "-")) for part in example.score.split(", ")
        )
        assert (score >= threshold) == (example.kind != "missed")
        with Image.open(BytesIO(example.webp)) as image:
            assert image.size == (20, 8)  # two of eight pixels, and a gap
            assert np.asarray(image)[:, 8:12].min() > 200
