"""The files of the tables as text: to be written, or compared with what was written."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from aeflow.core.errors import DataError
from aeflow.display.table import DisplayTable, main_display, results_display
from aeflow.questions.ablations import ablations_display, read_ablations
from aeflow.questions.categories import categories_display, categories_table
from aeflow.questions.certainty import ensembles_display, read_ensembles
from aeflow.questions.choice import choice_display, read_choice
from aeflow.questions.claims import Published, claims_display, claims_table
from aeflow.questions.complexity import (
    corrected_display,
    correlations_display,
    read_corrected,
    read_correlations,
)
from aeflow.questions.defects import defects_display, read_defects
from aeflow.questions.results import csv_text
from aeflow.questions.variants import comparison_display, read_comparison
from aeflow.questions.weighting import read_weighting, weighting_display
from aeflow.study.entries import DatasetEntry

Reader = Callable[[Path], pd.DataFrame]
# Tables that rest on more than the metrics: how each is read and shown.
EXPLAINED: dict[str, tuple[Reader, Callable[..., DisplayTable]]] = {
    "comparison": (read_comparison, comparison_display),
    "choice": (read_choice, choice_display),
    "ablations": (read_ablations, ablations_display),
    "weighting": (read_weighting, weighting_display),
    "ensembles": (read_ensembles, ensembles_display),
    "complexity": (read_correlations, correlations_display),
    "complexity_corrected": (read_corrected, corrected_display),
    "defects": (read_defects, defects_display),
}


def metrics_texts(
    results: pd.DataFrame, means: pd.DataFrame, variants: Sequence[str]
) -> dict[str, str]:
    """Return the content of each file that rests on the metrics alone, by its name.

    Args:
        results: Output of `results_table`.
        means: Output of `main_table`.
        variants: those to show.
    """
    categories = categories_table(results, variants)
    shown = {
        "results": results_display(results),
        "main": main_display(means[means["variant"].isin(list(variants))]),
        "categories": categories_display(categories),
    }
    texts = {
        f"{name}.{ending}": text
        for name, display in shown.items()
        for ending, text in _people_and_papers(display).items()
    }
    return texts | {"categories.csv": csv_text(categories)}


def claims_texts(
    means: pd.DataFrame,
    published: Published,
    entries: Sequence[DatasetEntry],
    chosen: Mapping[str, str],
) -> dict[str, str]:
    """Return the content of each file of the claims, by its name; arguments as `claims_table`."""
    claims = claims_table(means, published, entries, chosen)
    shown = _people_and_papers(claims_display(claims, published))
    texts = {f"claims.{ending}": text for ending, text in shown.items()}
    return texts | {"claims.csv": csv_text(claims)}


def explained_texts(csv: Path, entries: Sequence[DatasetEntry]) -> dict[str, str]:
    """Return what one of the `EXPLAINED` tables makes of the files beside it, by their names.

    Args:
        csv: the table as data.
        entries: the study's datasets.

    Raises:
        DataError: the file is missing, has other columns or values that no rule writes.
    """
    reader, display = EXPLAINED[csv.stem]
    with reading(csv):
        table = reader(csv)
        shown = display(table, entries) if csv.stem == "ensembles" else display(table)
    texts = _people_and_papers(shown)
    return {f"{csv.stem}.{ending}": text for ending, text in texts.items()}


@contextmanager
def reading(csv: Path) -> Iterator[None]:
    """Turn what a damaged table raises where it is read or shown into a sentence.

    Raises:
        DataError: the table is no CSV, or has values that no rule writes.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{csv} holds what no rule writes ({error}): restore it from git, or delete it and "
            "run snakemake."
        ) from error


def _people_and_papers(display: DisplayTable) -> dict[str, str]:
    return {"md": display.markdown(), "tex": display.latex()}
