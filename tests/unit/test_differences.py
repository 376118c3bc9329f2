"""Where two contents of JSON differ."""

from pathlib import Path
from typing import Any

import pytest

from aeflow.core.errors import DataError
from aeflow.differences import csv_content, differences


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


TABLE = 'category,auroc,why\n01,0.25,"a, b"\n02,,\n'


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("0.25", "0.2500000000000001", []),
        ("0.25", "0.26", ["rows[0].auroc: 0.26, not 0.25"]),
        ("01", "1", ["rows[0].category: 1.0, not '01'"]),
        ("a, b", "a", ["rows[0].why: 'a', not 'a, b'"]),
        ("02,,\n", "", ["cells: 1 values, not 2 values", "rows: 1 values, not 2 values"]),
        ("02,,", "02,,,", ["cells[1]: 4, not 3"]),
        ("why", "who", ["columns[2]: 'who', not 'why'"]),
    ],
)
def test_tables_differ_in_columns_and_cells(old: str, new: str, expected: list[str]) -> None:
    found = csv_content(TABLE.replace(old, new), Path("x.csv"))
    assert list(differences(found, csv_content(TABLE, Path("x.csv"))))[
        : len(expected) or None
    ] == (expected)


def test_what_is_no_csv_is_named() -> None:
    with pytest.raises(DataError, match=r"^x\.csv is no valid CSV"):
        csv_content('a\n"' + "x" * 200_000, Path("x.csv"))
    assert csv_content("", Path("x.csv")) == {"columns": [], "cells": [], "rows": []}
