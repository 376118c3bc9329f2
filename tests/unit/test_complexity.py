"""Complexity against zlib, scipy and numpy."""

import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aeflow.core.errors import DataError
from aeflow.core.types import Method
from aeflow.data.prepared import open_prepared
from aeflow.methods.gradient import mean_absolute_gradient
from aeflow.scoring.combine import pred_score
from aeflow.scoring.complexity import (
    MEASURES,
    complexity_corrected,
    complexity_correlations,
    complexity_table,
    compressed_bits,
)
from aeflow.scoring.score_tables import check_scores
from aeflow.study.settings import ScoreSettings
from tests.unit.tiny import TinyStudy


@pytest.fixture
def scores():
    """80 validation and 60 test images whose nll follows their complexity."""
    generator = np.random.default_rng(0)
    gt_label = np.tile([0, 0, 0, 1], 35)
    table = pd.DataFrame(
        {
            "image_id": [f"{index:03d}" for index in range(140)],
            "split": ["validation"] * 80 + ["test"] * 60,
            "gt_label": gt_label,
            "defect": np.where(gt_label == 1, "crack", "good"),
        }
    )
    table["nll"] = 3.0 * complexity_of(table)["compressed_bits"] + generator.normal(size=140)
    table["ssim"] = generator.normal(size=140).round(1)
    return table


def complexity_of(table):
    generator = np.random.default_rng(1)
    found = table[["image_id"]].copy()
    found["compressed_bits"] = generator.uniform(1, 6, size=len(table))
    found["mean_gradient"] = 10 * found["compressed_bits"] + generator.normal(size=len(table))
    return found


def chunks_of(png):
    """Names and lengths of a PNG's chunks."""
    position, found = 8, []
    while position < len(png):
        length, name = struct.unpack(">I4s", png[position : position + 8])
        found.append((name, png[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def test_noise_needs_every_bit_and_one_colour_none():
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    flat = np.full((64, 64, 3), 77, dtype=np.uint8)
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None], 64, 1).repeat(3, 2)
    assert 8 < compressed_bits(noise) < 8.3
    assert compressed_bits(flat) <= compressed_bits(ramp) < 0.3  # predicted from its neighbours
    assert compressed_bits(flat) < compressed_bits((noise // 64) * 64) < compressed_bits(noise)


def test_the_size_is_that_of_a_png_that_holds_the_image(tmp_path):
    from PIL import Image

    image = np.random.default_rng(1).integers(0, 40, (32, 48, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path, compress_level=6)
    assert compressed_bits(image) == 8 * path.stat().st_size / (32 * 48 * 3)
    data = b"".join(part for name, part in chunks_of(path.read_bytes()) if name == b"IDAT")
    assert len(zlib.decompress(data)) == 32 * (48 * 3 + 1)


def test_the_table_has_the_images_of_a_score_table(tiny: TinyStudy):
    prepared = open_prepared(*(tiny.folder / f for f in ("images.npy", "masks.npy", "index.csv")))
    found = complexity_table(prepared)
    kept = [(n, row) for n, row in enumerate(tiny.rows) if row["split"] != "train"]
    assert list(found.columns) == ["image_id", *MEASURES]
    assert list(found["image_id"]) == [row["image_id"] for _, row in kept]
    for measure, function in zip(MEASURES, (compressed_bits, mean_absolute_gradient), strict=True):
        assert list(found[measure]) == [function(np.array(tiny.images[n])) for n, _ in kept]


def test_correlations_equal_scipy_per_class(scores):
    complexity = complexity_of(scores)
    found = complexity_correlations(scores, complexity.sample(frac=1, random_state=0))
    assert len(found) == 2 * 2 * 3
    test = (scores["split"] == "test").to_numpy()
    groups = {"all": test, **{k: test & (scores["gt_label"] == v) for k, v in CLASSES.items()}}
    for row in found.itertuples():
        kept = groups[row.images]
        ranks = [
            stats.rankdata(values[kept])
            for values in (scores[row.component], complexity[row.measure])
        ]
        assert row.spearman == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-12)
        assert (row.n, row.reason) == (kept.sum(), "")
    strong = found[(found["component"] == "nll") & (found["measure"] == "compressed_bits")]
    assert (strong["spearman"] > 0.9).all()


CLASSES = {"normal": 0, "anomalous": 1}


def test_no_ranks_no_correlation(scores):
    complexity = complexity_of(scores).assign(mean_gradient=1.0)
    few = scores.drop(scores.index[(scores["gt_label"] == 1) & (scores.index >= 88)])
    found = complexity_correlations(few, complexity).set_index(["component", "measure", "images"])
    constant = found.loc[("nll", "mean_gradient", "normal")]
    assert np.isnan(constant["spearman"])
    assert "same value" in constant["reason"]
    rare = found.loc[("nll", "compressed_bits", "anomalous")]
    assert np.isnan(rare["spearman"])
    assert rare["reason"] == "A rank correlation needs 3 or more images, there are 2."


def test_the_correction_equals_least_squares(scores):
    complexity = complexity_of(scores)
    found = complexity_corrected(scores, complexity.sample(frac=1, random_state=0))
    normal = ((scores["split"] == "validation") & (scores["gt_label"] == 0)).to_numpy()
    design = np.column_stack([np.ones(140), complexity[list(MEASURES)]])
    for name in ("nll", "ssim"):
        values = scores[name].to_numpy()
        weights, *_ = np.linalg.lstsq(design[normal], values[normal], rcond=None)
        assert found[name].to_numpy() == pytest.approx(values - design @ weights, abs=1e-9)
        for column in design.T:  # normal equations: residuals are orthogonal to the design
            assert column[normal] @ found[name][normal] == pytest.approx(0, abs=1e-8)
    assert found[["image_id", "split", "gt_label", "defect"]].equals(
        scores[["image_id", "split", "gt_label", "defect"]]
    )


def test_the_corrected_table_is_a_score_table_without_complexity(scores):
    complexity = complexity_of(scores)
    found = complexity_corrected(scores, complexity)
    check_scores(found)
    assert np.isfinite(pred_score(found, Method.FLOW, ScoreSettings(flow="nll"))).all()
    left = complexity_correlations(found, complexity)
    whole = left[(left["component"] == "nll") & (left["images"] == "all")]
    assert whole["spearman"].abs().max() < 0.3


def test_the_correction_sees_validation_normals_only(scores):
    complexity = complexity_of(scores)
    before = complexity_corrected(scores, complexity)
    changed = scores.copy()
    others = (scores["split"] == "test") | (scores["gt_label"] == 1)
    changed.loc[others, "nll"] += 100.0
    changed.loc[others, "gt_label"] = 1
    after = complexity_corrected(changed, complexity)
    assert after["nll"][~others].tolist() == before["nll"][~others].tolist()
    assert (after["nll"] - before["nll"])[others].to_numpy() == pytest.approx(100)


def test_a_constant_measure_counts_not(scores):
    complexity = complexity_of(scores).assign(mean_gradient=12.5)
    found = complexity_corrected(scores, complexity)
    normal = (scores["split"] == "validation") & (scores["gt_label"] == 0)
    fit = stats.linregress(complexity["compressed_bits"][normal], scores["nll"][normal])
    expected = scores["nll"] - fit.intercept - fit.slope * complexity["compressed_bits"]
    assert found["nll"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-9)


def test_wrong_input_is_named(scores):
    complexity = complexity_of(scores)
    with pytest.raises(DataError, match="Image '005' has no complexity"):
        complexity_correlations(scores, complexity.drop(index=5))
    with pytest.raises(DataError, match="needs 4 or more validation normals, there are 3"):
        complexity_corrected(scores[76:], complexity)
