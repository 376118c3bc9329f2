"""Mean, sd and interval over seeds against scipy."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aeflow.core.errors import DataError
from aeflow.judging.over_seeds import over_seeds, t_interval


def seeds(variant, values, **more):
    return pd.DataFrame({"variant": variant, "seed": range(len(values)), "f1": values, **more})


def test_the_interval_is_students():
    values = np.array([0.81, 0.85, 0.78, 0.9])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = t_interval(values.mean(), values.std(ddof=1), 4, (0, 1))
    assert list(found) == pytest.approx(list(expected))
    low, high = t_interval([0.5, 0.5], [np.nan, 0.1], [1, 0], (0, 1))
    assert np.isnan([low, high]).all()


def test_the_interval_covers_as_often_as_it_says():
    values = np.random.default_rng(0).normal(0.8, 0.05, size=(2000, 3))
    low, high = t_interval(values.mean(1), values.std(1, ddof=1), 3, (0, 1))
    # The binomial sd of a share of 2000 at 0.95 is 0.005.
    assert 0.935 < ((low <= 0.8) & (high >= 0.8)).mean() < 0.965


def test_over_seeds():
    table = pd.concat(
        [seeds("b", [0.7, 0.9], auc=0.5), seeds("a", [0.6], auc=0.4), seeds("c", [0.7, np.nan])]
    )
    found = over_seeds(table, ["variant"], ["f1", "auc"])
    assert found["variant"].tolist() == ["b", "a", "c"]
    assert found["n_seeds"].tolist() == [2, 1, 2]
    two, one, lacking = found.to_dict("records")
    assert two["f1_mean"] == pytest.approx(0.8)
    assert two["f1_sd"] == pytest.approx(0.1 * 2**0.5)
    assert (two["f1_low"], two["f1_high"]) == (0, 1)  # 0.8 -+ 12.7 * 0.1, and no F1 is above 1
    assert (two["auc_sd"], two["auc_low"], two["auc_high"]) == (0, 0.5, 0.5)
    assert one["f1_mean"] == 0.6
    assert np.isnan([one["f1_sd"], one["f1_low"], one["f1_high"]]).all()
    assert np.isnan([lacking["f1_mean"], lacking["f1_sd"]]).all()  # a mean needs every seed


def test_a_seed_counts_once():
    table = pd.concat([seeds("a", [0.7, 0.8]), seeds("a", [0.9])])
    with pytest.raises(DataError, match="Seed 0 of a has two rows"):
        over_seeds(table, ["variant"], ["f1"])


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_no_interval_leaves_the_possible_range(values):
    found = over_seeds(
        seeds("a", values, fit_seconds=[900 * v for v in values]),
        ["variant"],
        ["f1", "fit_seconds"],
    )
    row = found.to_dict("records")[0]
    if len(values) == 1:
        assert np.isnan([row["f1_low"], row["fit_seconds_high"]]).all()
        return
    assert 0 <= row["f1_low"] <= row["f1_mean"] + 1e-15
    assert row["f1_mean"] - 1e-15 <= row["f1_high"] <= 1
    assert 0 <= row["fit_seconds_low"] <= row["fit_seconds_mean"] + 1e-9
    assert row["fit_seconds_high"] >= row["fit_seconds_mean"] - 1e-9  # seconds have no upper end
