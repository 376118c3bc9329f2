"""What the tables of a study are made from, to be made again."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from aeflow.questions.choice import chosen_variants, read_choice
from aeflow.questions.claims import load_published
from aeflow.questions.results import csv_text, headline, main_table, results_table
from aeflow.report.texts import (
    EXPLAINED,
    claims_texts,
    explained_texts,
    metrics_texts,
    reading,
)
from aeflow.study.study import Study

PUBLISHED = Path("config/published.yaml")
Made = Callable[[], dict[Path, str]]


def from_metrics(study: Study, tables: Path, metrics: Sequence[dict[str, Any]]) -> Iterator[Made]:
    """Yield functions that return the text of files; they may raise DataErrors.

    Args:
        study: the configuration.
        tables: the study's tables, of which the claims need `choice.csv`.
        metrics: contents of its metrics files, in the order of its cells.

    Raises:
        DataError: the metrics make no table.
    """
    results = results_table(metrics)
    means = main_table(results)
    names = [variant.name for variant in study.variants]

    def claims() -> dict[Path, str]:
        choice = tables / "choice.csv"
        with reading(choice):
            chosen = chosen_variants(read_choice(choice))
        texts = claims_texts(means, load_published(PUBLISHED), study.datasets, chosen)
        return _in(tables, texts)

    own = {"results.csv": csv_text(results), "main.csv": csv_text(means)}
    yield lambda: _in(tables, own | metrics_texts(results, means, names))
    yield lambda: {tables.with_name("metrics.json"): json.dumps(headline(means))}
    if any(tables.glob("claims.*")):
        yield claims


def from_their_csv(study: Study, tables: Path) -> Iterator[tuple[Path, Made]]:
    """Yield the CSV of each other table that is here, and what returns its `.md` and `.tex`."""
    for name in EXPLAINED:
        if any(tables.glob(f"{name}.*")):
            csv = tables / f"{name}.csv"
            yield csv, partial(_explained, csv, study)


def _explained(csv: Path, study: Study) -> dict[Path, str]:
    return _in(csv.parent, explained_texts(csv, study.datasets))


def _in(folder: Path, texts: dict[str, str]) -> dict[Path, str]:
    return {folder / name: text for name, text in texts.items()}
