"""The cells of a study, where their files are, and what one is made from.

A rule hands a script the cells instead of thousands of paths: the system limits a command line.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aeflow.core.types import Method
from aeflow.study.cards import DatasetCard
from aeflow.study.study import Study


class Cell(NamedTuple):
    """One number of a study's tables: what, on what, with which seed."""

    dataset: str
    category: str
    variant: str
    seed: int

    def file(self, folder: Path, ending: str) -> Path:
        """Return the cell's file below a folder such as `results/<study>/metrics`."""
        name = f"seed{self.seed}.{ending}"
        return folder / self.dataset / self.category / self.variant / name


def study_cells(study: Study, cards: Mapping[str, DatasetCard]) -> list[Cell]:
    """Return every cell: dataset, category, variant, seed, the last fastest.

    Args:
        study: the configuration.
        cards: of its datasets, by their names.
    """
    return [
        Cell(entry.name, category, variant.name, seed)
        for entry in study.datasets
        for category in entry.categories or cards[entry.name].categories
        for variant in study.variants_on(entry.name)
        for seed in study.seeds_of(variant.name)
    ]


def scored_as(study: Study, cell: Cell) -> Cell:
    """Return the cell whose score table stands for `cell`.

    A variant without seeds has one table for all seeds.
    """
    seeds = study.seeds_of(cell.variant)
    return cell._replace(
        variant=study.trained_as(cell.dataset, cell.variant),
        seed=cell.seed if cell.seed in seeds else seeds[0],
    )


def trainings_of(study: Study, cell: Cell) -> list[Cell]:
    """Return the cells whose trainings are behind `cell`: none, one, or those of its members."""
    variant = study.variant(cell.variant)
    names = variant.members or [variant.name]
    trained = [
        cell._replace(variant=study.trained_as(cell.dataset, name))
        for name in names
        if study.variant(name).method != Method.GRADIENT
    ]
    return list(dict.fromkeys(trained))


def encoder_of(study: Study, dataset: str, variant: str) -> str | None:
    """Return `<encoder>-stage<k>`, or None for a method that sees no encoder."""
    method = study.variant(variant).method
    encoder = study.cell(dataset, variant).encoder
    encoded = method.trained or (method.peer and method != Method.GANOMALY)
    return encoder.stage_name if encoded else None


def identity_of(study: Study, cell: Cell) -> dict[str, Any]:
    """Return which result the cell's metrics hold: the content of an `Identity`."""
    return {
        "study": study.study,
        **cell._asdict(),
        "method": study.variant(cell.variant).method.value,
        "encoder": encoder_of(study, cell.dataset, cell.variant),
    }


def judging_of(study: Study, cell: Cell) -> dict[str, Any]:
    """Return what turns the cell's scores into metrics: the content of `JudgingSettings`."""
    own = study.cell(cell.dataset, cell.variant).model_dump(
        mode="json", include={"score", "threshold"}
    )
    return own | {"evaluation": study.evaluation.model_dump(mode="json")}


def pack_cells(cells: Iterable[Cell]) -> str:
    """Return JSON of {dataset: {"categories": [...], "seeds": {variant: [...]}}}.

    Every variant of a dataset must have the same categories, as in a study.
    """
    categories: dict[str, dict[str, None]] = {}
    seeds: dict[str, dict[str, dict[int, None]]] = {}
    for cell in cells:
        categories.setdefault(cell.dataset, {})[cell.category] = None
        seeds.setdefault(cell.dataset, {}).setdefault(cell.variant, {})[cell.seed] = None
    packed = {
        dataset: {
            "categories": list(categories[dataset]),
            "seeds": {variant: list(found) for variant, found in seeds[dataset].items()},
        }
        for dataset in categories
    }
    return json.dumps(packed, separators=(",", ":"))


def unpack_cells(text: str) -> list[Cell]:
    """Return the cells of `pack_cells`: dataset, category, variant, seed, the last fastest."""
    return [
        Cell(dataset, category, variant, seed)
        for dataset, part in json.loads(text).items()
        for category in part["categories"]
        for variant, seeds in part["seeds"].items()
        for seed in seeds
    ]
