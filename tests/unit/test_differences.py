"""Where two contents of JSON differ."""

from typing import Any

import pytest

from aeflow.differences import differences


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ({"a": 1, "more": 2}, {"a": 1}, []),
        ({"a": {"b": [1.0, 2.0]}}, {"a": {"b": [1.0, 2.0 + 1e-14]}}, []),
        ({"a": {"b": [1.0, 2.0]}}, {"a": {"b": [1.0, 2.1]}}, ["a.b[1]: 2.0, not 2.1"]),
        ({}, {"a": None}, []),
        ({"a": 0.5}, {"a": None}, ["a: 0.5, not None"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a: 1 values, not 2 values"]),
        ([{"x": 1.0}], [{"x": None}], ["[0].x: 1.0, not None"]),
        ({"a": True}, {"a": False}, ["a: True, not False"]),
    ],
)
def test_each_wanted_value_that_differs_is_named(
    found: Any, wanted: Any, expected: list[str]
) -> None:
    assert list(differences(found, wanted)) == expected
