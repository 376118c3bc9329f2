"""The cells of a study in few characters, and where their files are.

A rule hands a script the cells instead of thousands of paths: the system limits a command line.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


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
