"""The faults of `make mutants` fit the code, and their table shows them."""

import ast
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, REPORT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_can_be_put_into_the_code(mutant: Mutant) -> None:
    text = Path(mutant.file).read_text()
    assert text.count(mutant.old) == 1
    assert not {"\n", "|", "`"} & set(mutant.old + mutant.new), "one line, and fit for a table"
    ast.parse(text.replace(mutant.old, mutant.new))
    for test in mutant.tests.split():
        file, _, function = test.partition("::")
        assert f"def {function}" in Path("tests/unit", file).read_text()


def test_the_table_has_every_fault_and_each_was_found() -> None:
    lines = [line for line in REPORT.read_text().splitlines() if "<br>" in line]
    assert 20 <= len(MUTANTS) == len(lines)
    for mutant, line in zip(MUTANTS, lines, strict=True):
        change = f"| `{mutant.file}` | `{mutant.old.strip()}`<br>`{mutant.new.strip()}` | `"
        assert line.startswith(f"| {mutant.name.replace('-', ' ')} {change}"), "run make mutants"
