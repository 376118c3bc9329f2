"""The trivial baseline and the size of a PNG against loops, Pillow and zlib."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeflow.methods.gradient import compressed_bits, mean_absolute_gradient
from tests.unit.tiny import TinyStudy, score_tiny


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
    expected = np.mean([abs(gray[y + 1, x] - gray[y, x]) for y in range(39) for x in range(30)])
    # Pillow rounds to whole gray levels.
    assert mean_absolute_gradient(image) == pytest.approx(expected, abs=0.05)


def test_noise_needs_every_bit_and_one_colour_none() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    flat = np.full((64, 64, 3), 77, dtype=np.uint8)
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None], 64, 1).repeat(3, 2)
    assert 8 < compressed_bits(noise) < 8.3
    assert compressed_bits(flat) <= compressed_bits(ramp) < 0.3  # predicted from its neighbours
    assert compressed_bits(flat) < compressed_bits((noise // 64) * 64) < compressed_bits(noise)


def test_the_size_is_that_of_a_png_that_holds_the_image(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 40, (32, 48, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path, compress_level=6)
    assert compressed_bits(image) == 8 * path.stat().st_size / (32 * 48 * 3)
    content = path.read_bytes()
    start = content.index(b"IDAT") + 4
    assert len(zlib.decompressobj().decompress(content[start:])) == 32 * (48 * 3 + 1)


def test_the_score_table(tiny: TinyStudy) -> None:
    table, facts = score_tiny(tiny.paths(), tiny.folder, "gradient")
    assert facts == {"pixel": {}}
    columns = ["high_gradient", "low_gradient", "compressed_bits"]
    assert list(table.columns) == ["image_id", "split", "gt_label", "defect", *columns]
    kept = [(n, row) for n, row in enumerate(tiny.rows) if row["split"] != "train"]
    assert list(table["image_id"]) == [row["image_id"] for _, row in kept]
    gradient = [mean_absolute_gradient(tiny.images[number]) for number, _ in kept]
    bits = [compressed_bits(tiny.images[number]) for number, _ in kept]
    for name, expected in zip(columns, (gradient, np.negative(gradient), bits), strict=True):
        np.testing.assert_allclose(table[name], expected, rtol=5e-7)
    with np.load(tiny.folder / "gallery.npz") as gallery:
        assert set(gallery.files) == {"image_id", "image", "image_ends", "mask", "mask_ends"}
