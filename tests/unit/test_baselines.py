"""The trivial baseline against loops and Pillow."""

import numpy as np
import pytest
from PIL import Image

from aeflow.data.prepared import open_prepared
from aeflow.methods.gradient import gradient_scores, mean_absolute_gradient
from tests.unit.tiny import TinyStudy


def test_the_gradient_by_hand() -> None:
    image = np.zeros((3, 2, 3), dtype=np.uint8)
    image[1, 0] = 10  # gray 10: a step up and a step down in the first column
    image[2, 1] = (0, 100, 0)  # green: a step of 58.7 in the second
    assert mean_absolute_gradient(image) == pytest.approx((10 + 10 + 58.7) / 4)


def test_only_vertical_steps_count() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[:, ::2] = 200
    assert mean_absolute_gradient(image) == 0
    assert mean_absolute_gradient(image.transpose(1, 0, 2)) == pytest.approx(200, rel=1e-6)


def test_the_luma_is_pillows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    gray = np.asarray(Image.fromarray(image).convert("L")).astype(int)
    total = 0
    for y in range(39):
        for x in range(30):
            total += abs(int(gray[y + 1, x]) - int(gray[y, x]))
    # Pillow rounds to whole gray levels.
    assert mean_absolute_gradient(image) == pytest.approx(total / (39 * 30), abs=0.05)


def test_the_score_table(tiny: TinyStudy) -> None:
    prepared = open_prepared(*(tiny.folder / f for f in ("images.npy", "masks.npy", "index.csv")))
    table = gradient_scores(prepared)
    assert list(table.columns) == [
        "image_id",
        "split",
        "gt_label",
        "defect",
        "high_gradient",
        "low_gradient",
    ]
    kept = [(n, row) for n, row in enumerate(tiny.rows) if row["split"] != "train"]
    assert list(table["image_id"]) == [row["image_id"] for _, row in kept]
    assert list(table["gt_label"]) == [row["gt_label"] for _, row in kept]
    expected = [mean_absolute_gradient(tiny.images[number]) for number, _ in kept]
    assert list(table["high_gradient"]) == expected
    assert list(table["low_gradient"]) == [-value for value in expected]
