"""Cells on a command line: what is packed comes out again."""

import json
from pathlib import Path

import pytest

from aeflow.judging.evaluation import JudgingSettings
from aeflow.study.cells import (
    Cell,
    encoder_of,
    identity_of,
    judging_of,
    pack_cells,
    scored_as,
    trainings_of,
    unpack_cells,
)
from aeflow.study.study import Study

CELLS = [
    Cell(dataset, category, variant, seed)
    for dataset, categories in (("btad", ["01", "02"]), ("chest_xray", ["all"]))
    for category in categories
    for variant, seeds in (("aeflow", [0, 2]), ("gradient", [0]))
    for seed in seeds
]


def test_what_is_packed_comes_out_in_its_order() -> None:
    assert unpack_cells(pack_cells(CELLS)) == CELLS
    assert unpack_cells(pack_cells(iter(CELLS))) == CELLS
    assert unpack_cells(pack_cells([])) == []


def test_the_text_grows_with_names_and_not_with_cells() -> None:
    many = [
        Cell("d", f"c{c}", f"v{v}", seed)
        for c in range(40)
        for v in range(40)
        for seed in (0, 1, 2)
    ]
    text = pack_cells(many)
    assert len(text) < 2000
    assert unpack_cells(text) == many


def test_datasets_may_have_other_variants_and_seeds() -> None:
    cells = [Cell("a", "x", "one", 5), Cell("b", "y", "two", 0), Cell("b", "y", "two", 1)]
    packed = pack_cells(cells)
    assert json.loads(packed)["b"] == {"categories": ["y"], "seeds": {"two": [0, 1]}}
    assert unpack_cells(packed) == cells


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_a_cells_file_is_below_its_names(ending: str) -> None:
    path = CELLS[1].file(Path("results/s/metrics"), ending)
    assert path == Path(f"results/s/metrics/btad/01/aeflow/seed2.{ending}")


def test_what_a_cell_is_made_from() -> None:
    variants = [
        {"name": "one"},
        {"name": "beta", "settings": {"score": {"beta": 0.5}}},
        {"name": "base", "method": "gradient"},
        {"name": "peer", "method": "ganomaly"},
        {"name": "all", "method": "fusion", "members": ["beta", "base", "peer", "one"]},
    ]
    study = Study.model_validate({"variants": variants, "seeds": [3, 4]})

    def cell(variant: str, seed: int = 4) -> Cell:
        return Cell("chest_xray", "all", variant, seed)

    assert scored_as(study, cell("beta")) == cell("one")
    assert scored_as(study, cell("base")) == cell("base", 3), "one table for all seeds"
    assert trainings_of(study, cell("beta")) == [cell("one")]
    assert trainings_of(study, cell("base")) == []
    assert trainings_of(study, cell("all")) == [cell("one"), cell("peer")]
    assert identity_of(study, cell("all")) == {
        "study": study.study,
        **cell("all")._asdict(),
        "method": "fusion",
        "encoder": None,
    }
    assert judging_of(study, cell("beta"))["score"]["beta"] == 0.5
    assert judging_of(study, cell("one")).keys() == JudgingSettings.model_fields.keys()
    encoders = {v["name"]: encoder_of(study, "chest_xray", v["name"]) for v in variants}
    assert encoders == dict.fromkeys(encoders) | dict.fromkeys(
        ("one", "beta"), "wide_resnet50_2-stage3"
    )
