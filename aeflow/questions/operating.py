"""What was asked of a threshold, and what the test shows there: one row per detector."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from aeflow.display.table import DisplayTable, interval, percent, plain
from aeflow.judging.metrics import READINGS
from aeflow.questions.source import Source

_CELL = ["dataset", "category", "variant", "seed"]
_ASKED = ["threshold_rule", "asked", "n_fitted_normal", "n_fitted_anomalous", "threshold"]
_VALIDATION = ["val_sensitivity", "val_specificity"]
_SHORT = {"sensitivity": "SEN", "specificity": "SPE"}


def operating_table(source: Source) -> pd.DataFrame:
    """Return a row per run of a named variant, shares in [0, 1]; what is missing is empty.

    Returns:
        What the rule asked for and of how many validation images, the rates there, those of the
        test, and the readings of the test's own curve, each with the ends of its interval; why
        rates are missing.
    """
    rows = []
    for run in source.runs():
        row = {name: run[name] for name in [*_CELL, "threshold_rule", "threshold"]}
        row |= run["operating"]
        for name in (*_SHORT, *READINGS):
            low, high = run["intervals"].get(name) or (None, None)
            row |= {name: run[name], f"{name}_low": low, f"{name}_high": high}
        rows.append(row | {"why": run["reasons"].get("sensitivity", "")})
    shares = [f"{n}{end}" for n in (*_SHORT, *READINGS) for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*_CELL, *_ASKED, *_VALIDATION, *shares, "why"])


def operating_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return the detectors of the first seed for people, each asked beside what came out."""
    first = table.drop_duplicates(_CELL[:3], ignore_index=True)
    cells = first[_CELL[:3]].rename(columns=str.capitalize)
    cells["Asked"] = first["asked"]
    cells["Of validation images"] = [_images(row) for row in first.to_dict("records")]
    for name, label in _SHORT.items():
        cells[f"{label}, validation"] = first[f"val_{name}"].map(percent)
        cells[f"{label}, test"] = _with_interval(first, name)
    for name in READINGS:
        _, read, _, target = name.split("_")
        other = "SPE" if read == "sensitivity" else "SEN"
        cells[f"{_SHORT[read]} at {target} % {other} (oracle)"] = _with_interval(first, name)
    cells["Why empty"] = first["why"]
    several = " The first seed of each; all are in operating.csv." * (len(first) < len(table))
    return plain(
        cells,
        "Percent, in brackets the bootstrap interval over the test images. Asked: by the "
        "threshold's rule, of validation images; SEN and SPE at that threshold stand beside each "
        "other for validation and test. Oracle: read off the test's own curve, the highest rate "
        "where the other reaches 90, 95 or 99 %: no detector knows that threshold. Empty where "
        f"the test has fewer than 10, 20 or 100 images of the other class.{several}",
        long=True,
    )


def _images(row: Mapping[Hashable, Any]) -> str:
    counts = {kind: row[f"n_fitted_{kind}"] for kind in ("normal", "anomalous")}
    return ", ".join(f"{n} {kind}" for kind, n in counts.items() if pd.notna(n) and n)


def _with_interval(table: pd.DataFrame, name: str) -> list[str]:
    """Return each share with its interval, `80.0 (75.0–85.0)`, or alone where it has none."""
    ends = map(interval, table[f"{name}_low"], table[f"{name}_high"])
    return [
        f"{share} ({between})" if between else share
        for share, between in zip(table[name].map(percent), ends, strict=True)
    ]
