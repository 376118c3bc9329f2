"""Pixel metrics against scikit-learn and a brute-force AUPRO."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from aeflow.core.errors import DataError
from aeflow.scoring.pixel_metrics import PixelMetrics, _ordered_code
from tests.oracle.aupro_reference import aupro, regions_of

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


def judge(anomaly_maps, masks, fpr_limit=0.3, bins=2**22):
    collected = PixelMetrics(bins)
    for anomaly_map, mask in zip(anomaly_maps, masks, strict=True):
        collected.update(anomaly_map, mask)
    return collected.compute(fpr_limit)


def pixel_auroc(anomaly_maps, masks):
    return roc_auc_score(np.stack(masks).ravel() != 0, np.stack(anomaly_maps).ravel())


def random_images(seed, values, count=4, size=(9, 11), share=0.25):
    """Maps and masks whose regions touch borders and one another at corners; image 0 is normal."""
    generator = np.random.default_rng(seed)
    masks = [generator.random(size) < share for _ in range(count)]
    masks[0][:] = False
    maps = [values(generator, size) for _ in range(count)]
    return [
        (m + np.float32(0.3) * y).astype(np.float32) for m, y in zip(maps, masks, strict=True)
    ], masks


VALUES = {
    "few distinct": lambda g, size: g.integers(0, 4, size) / 4,
    "in [0, 1]": lambda g, size: g.random(size),
    "near 300": lambda g, size: 300 + 0.1 * g.normal(size=size),
    "in (-1, 0)": lambda g, size: -g.random(size),
    "signed": lambda g, size: g.normal(size=size),
    "one": lambda g, size: np.ones(size),
}
values = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())


@values
@pytest.mark.parametrize("fpr_limit", [0.05, 0.3, 1.0])
def test_equal_to_scikit_learn_and_to_the_definition(values, fpr_limit):
    for seed in range(3):
        maps, masks = random_images(seed, values)
        found = judge(maps, masks, fpr_limit)
        assert found["pixel_auroc"] == pytest.approx(pixel_auroc(maps, masks), abs=1e-9)
        assert found["aupro"] == pytest.approx(aupro(maps, masks, fpr_limit), abs=1e-9)


@repeatable
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2 * 12, max_size=2 * 12).filter(
        lambda pixels: 0 < sum(y for _, y in pixels) < 24
    ),
    st.floats(0.01, 1),
)
def test_equal_to_the_definition_for_any_small_images(pixels, fpr_limit):
    score, label = (np.array(part).reshape(2, 3, 4) for part in zip(*pixels, strict=True))
    found = judge(score.astype(np.float32), label, fpr_limit, bins=2**12)  # enough for 0 to 3
    assert found["aupro"] == pytest.approx(aupro(score, label, fpr_limit), abs=1e-12)
    assert found["pixel_auroc"] == pytest.approx(pixel_auroc(score, label), abs=1e-12)
    assert 0 <= found["aupro"] <= 1


def test_a_small_region_counts_as_much_as_a_large_one():
    mask = np.zeros((10, 10), np.uint8)
    mask[0, 0] = mask[0, 9] = 1  # two regions of 1 pixel, never found
    mask[4:8, 2:8] = 1  # one of 24, found at once
    anomaly_map = np.where(mask == 1, 1.0, 0.5).astype(np.float32)
    anomaly_map[0, 0] = anomaly_map[0, 9] = 0.0
    # PRO is 1/3 from FPR 0 to 1, where the last two pixels follow.
    assert judge([anomaly_map], [mask], 0.3)["aupro"] == pytest.approx(1 / 3)


def test_linear_interpolation_at_the_limit_by_hand():
    # 1 region of 2 pixels, 4 normal pixels; (FPR, PRO): (0, .5), (.5, .5), (1, 1).
    anomaly_map = np.array([[3, 1, 2, 2, 1, 1]], np.float32)
    mask = np.array([[1, 1, 0, 0, 0, 0]])
    assert judge([anomaly_map], [mask], 0.5)["aupro"] == pytest.approx(0.5)
    # To 0.75: 0.5 * 0.5 + 0.25 * (0.5 + 0.75) / 2.
    assert judge([anomaly_map], [mask], 0.75)["aupro"] == pytest.approx(0.40625 / 0.75)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1]])
    assert len(regions_of(mask)) == 2
    anomaly_map = np.array([[9, 0, 0, 0], [0, 9, 0, 0]], np.float32)
    # Of the regions {2 corners} and {1 pixel} the first is found: 1/2, with 4-connection 2/3.
    assert judge([anomaly_map], [mask], 0.01)["aupro"] == pytest.approx(0.5, abs=0.01)


def test_perfect_and_inverted_maps():
    mask = np.zeros((8, 8), bool)
    mask[:3, :3] = True
    assert judge([mask.astype(np.float32)], [mask]) == {"pixel_auroc": 1, "aupro": 1}
    # All normal pixels are tied above the region: the curve runs along the FPR axis.
    assert judge([-mask.astype(np.float32)], [mask]) == {"pixel_auroc": 0, "aupro": 0}


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_of_pixels_gives_no_number(label):
    nothing = {"pixel_auroc": None, "aupro": None}
    assert judge([np.random.default_rng(0).random((4, 4))], [np.full((4, 4), label)]) == nothing
    assert PixelMetrics().compute(0.3) == nothing  # nor does no image


def test_order_of_images_does_not_matter():
    maps, masks = random_images(5, lambda g, size: g.normal(size=size) * 10.0 ** g.integers(-8, 8))
    forward, backward = judge(maps, masks), judge(maps[::-1], masks[::-1])
    assert forward == {name: pytest.approx(value, abs=1e-6) for name, value in backward.items()}


def test_few_bins_lose_resolution_only():
    """2^16 bins for the float32 numbers of two signs: values within 1 % may share a bin."""
    maps, masks = random_images(6, VALUES["signed"], size=(16, 16))
    found = judge(maps, masks, bins=2**16)
    assert found["pixel_auroc"] == pytest.approx(pixel_auroc(maps, masks), abs=1e-3)
    assert found["aupro"] == pytest.approx(aupro(maps, masks, 0.3), abs=1e-3)


def test_values_far_apart_are_told_apart_after_the_bins_were_widened():
    # Neighbours at first, then values of other magnitudes and signs: 5 bins moves in a row.
    steps = [1.0, 1e-30, -1e-30, 1e30, -1e30, 0.0]
    collected = PixelMetrics(bins=2**12)
    for step in steps:
        collected.update(np.array([[step, step * 2 + 1e-38]], np.float32), np.array([[0, 1]]))
    flat = np.array([[s, s * 2 + 1e-38] for s in steps], np.float32)
    expected = roc_auc_score(np.tile([0, 1], len(steps)), flat.ravel())
    assert collected.compute(1.0)["pixel_auroc"] == pytest.approx(expected)


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("count", range(2, 12))
def test_bins_are_merged_only_when_the_range_needs_it(first, count):
    """Four bins: up to 4 neighbouring numbers are exact, then pairs of them, then fours."""
    neighbours = np.float32(1) + np.arange(first, first + count, dtype=np.float32) * 2**-23
    label = np.arange(count) % 2
    exponent = next(e for e in range(5) if (first + count - 1 >> e) - (first >> e) < 4)
    expected = roc_auc_score(label, np.arange(first, first + count) >> exponent)
    for order in (np.arange(count), np.arange(count)[::-1]):  # the range grows up, then down
        collected = PixelMetrics(bins=4)
        for pixel in order:
            collected.update(neighbours[None, [pixel]], label[None, [pixel]])
        assert collected.compute(1.0)["pixel_auroc"] == pytest.approx(expected)


@pytest.mark.parametrize("shift", range(11))
def test_resolution_is_better_than_2_to_the_minus_13(shift):
    value = np.float32(1.2345678)
    neighbour = value * np.float32(1 + 2**-12.99)
    assert _ordered_code(value)[()] >> shift < _ordered_code(neighbour)[()] >> shift


@repeatable
@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
@example(0.0, -0.0)
def test_codes_are_ordered_like_their_values(first, second):
    low, high = _ordered_code(np.array([first, second]))
    assert (low < high) == (first < second)
    assert (low == high) == (first == second)
    assert 0 <= low < 2**32


def test_broken_maps_are_refused():
    collected = PixelMetrics()
    with pytest.raises(DataError, match="not finite"):
        collected.update(np.array([[0.0, np.nan]]), np.array([[0, 1]]))
    with pytest.raises(DataError, match=r"shape \(2, 2\) does not fit a mask of shape \(2, 3\)"):
        collected.update(np.zeros((2, 2)), np.zeros((2, 3)))
