"""How deep levels become 8 bits, and what is said about it."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aeflow.core.errors import DataError
from aeflow.data.intensity import Levels, Used, measure, narrow_use, shared_levels, to_eight_bit

TYPES = [np.uint8, np.uint16, np.int16, np.uint32, np.int64, np.float32, np.float64]
SIXTEEN = Levels(0, 65535)


def test_sixteen_bits_are_the_nearest_of_eight() -> None:
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_eight_bit(values, SIXTEEN), (values.astype(int) + 128) // 257)


@given(
    st.sampled_from(TYPES),
    st.lists(st.integers(-(2**15), 2**16 - 1), min_size=1, max_size=20),
    st.integers(-5000, 5000),
    st.integers(1, 70000),
)
def test_levels_of_any_type_are_scaled_alike(
    kind: type, stored: list[int], low: int, span: int
) -> None:
    values = np.array(stored).astype(kind)
    found = to_eight_bit(values, Levels(low, low + span))
    shares = np.clip((values.astype(float) - low) / span, 0, 1)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(255 * shares))
    assert (np.diff(found[np.argsort(values)].astype(int)) >= 0).all()


def test_measured_levels_do_not_depend_on_what_is_not_finite() -> None:
    values = np.arange(1001, dtype=np.float32)
    assert measure(values) == Used(0, 5, 995, 1000)
    assert measure(np.concatenate([values, [np.nan, np.inf, -np.inf]])) == measure(values)
    assert measure(values.astype(np.uint16)) == measure(values)
    with pytest.raises(ValueError, match="finite"):
        measure(np.array([np.nan]))


def test_levels_span_all_training_normals() -> None:
    used = [Used(5, 100, 3000, 4095), Used(0, 200, 3500, 3600)]
    assert shared_levels("range", used) == (0, 4095)
    assert shared_levels("percentiles", used) == (100, 3500)
    assert shared_levels("full", used) is None
    assert shared_levels("window", used) is None
    assert shared_levels("range", []) is None  # no deep image
    with pytest.raises(DataError, match=r"of the 2 training normals .* level 7: .*percentiles"):
        shared_levels("percentiles", [Used(0, 7, 7, 9)] * 2)


def test_levels_that_no_number_can_part_are_a_sentence() -> None:
    with pytest.raises(DataError, match=r"from -1e\+308 to 1e\+308, too far"):
        shared_levels("range", [Used(-1e308, 0, 1, 1e308)])


@pytest.mark.parametrize(
    ("high", "said"),
    [(255, r"0\.4%.* get 1\."), (1023, r"1\.6%.* get 4\."), (4095, r"6\.2%.* get 16\.")],
)
def test_a_narrow_use_is_told_with_the_key_to_set(high: int, said: str) -> None:
    used = [Used(0, 0, high / 2, high / 2), Used(0, 1, high, 65535)]  # one hot pixel
    told = narrow_use(used, [SIXTEEN] * 2)
    assert told is not None
    assert f"from 0 to {high} " in told
    assert "Set data.intensity to range or percentiles" in told
    assert re.search(said, told)


def test_a_wide_use_is_not_told_but_ranges_that_differ_are() -> None:
    wide = Used(0, 0, 40000, 65535)
    assert narrow_use([wide], [SIXTEEN]) is None
    assert narrow_use([], []) is None
    assert narrow_use([Used(-1024, -1000, 1100, 3071)], [Levels(-1024, 3071)]) is None
    told = narrow_use([wide] * 2, [SIXTEEN, Levels(-1024, 3071)])
    assert told is not None
    assert "differs from file to file" in told
