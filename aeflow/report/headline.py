"""A study's headline numbers: for `dvc metrics`, the end of a run and `aeflow ls`."""

from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from aeflow.core.files import read_json, write_json
from aeflow.study.cells import path
from aeflow.study.study import Study

Numbers = dict[str, float | None]  # metric -> mean over seeds, None: there is none
_SHOWN = {"image_auroc": "AUROC %", "f1": "F1 %", "aupro": "AUPRO %"}
_MOST_ROWS, _BEST = 20, 3


def write_headline(study: Study, headline: Path) -> None:
    """Write the means of the named variants in the table `main`."""
    import pandas as pd

    from aeflow.display.table import METRICS, read_table

    main = read_table(path(study, "csv", {"table": "main"}))
    found: dict[str, dict[str, Numbers]] = {}
    for row in main[main["variant"].isin(study.named)].to_dict("records"):
        values = {name: row[f"{name}_mean"] for name in METRICS}
        known = {name: None if pd.isna(value) else value for name, value in values.items()}
        found.setdefault(row["dataset"], {})[row["variant"]] = known
    write_json(headline, found)


def _read(study: Study) -> Iterator[tuple[str, str, Numbers]]:
    """Yield dataset, variant and its means; nothing where no report was made."""
    file = path(study, "headline", {})
    for dataset, variants in (read_json(file) if file.is_file() else {}).items():
        for variant, numbers in variants.items():
            yield dataset, variant, numbers


def headline(study: Study) -> str:
    """Return the means as a table in percent, of a screenful at most."""
    rows = [
        [dataset, variant, *(_percent(numbers[name]) for name in _SHOWN)]
        for dataset, variant, numbers in _read(study)
    ]
    more = f"\nand {len(rows) - _MOST_ROWS} more." if len(rows) > _MOST_ROWS else ""
    headers = ["dataset", "variant", *_SHOWN.values()]
    table: str = tabulate(rows[:_MOST_ROWS], headers, disable_numparse=True)
    return table + more


def highest(study: Study, dataset: str) -> str:
    """Return the variants with the highest test AUROC on a dataset; empty: there is none."""
    aurocs = [
        (auroc, variant)
        for of, variant, numbers in _read(study)
        if of == dataset and (auroc := numbers["image_auroc"]) is not None
    ]
    first = sorted(aurocs, key=lambda each: -each[0])[:_BEST]
    told = [f"{variant} {_percent(auroc)}" for auroc, variant in first]
    return ", ".join(told) + ", ..." * (len(aurocs) > _BEST)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"
