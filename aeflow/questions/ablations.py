"""What one key of the configuration changes: a row per dataset, ablation and value."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aeflow.display.table import LABELS, DisplayTable, best, interval, number, percent, plain
from aeflow.questions.results import main_table, read_table

_NAMES = ["dataset", "ablation", "of", "key", "value", "variant", "trained_as"]
SHARES = ["val_auroc", "image_auroc", "f1", "oracle_f1", "pixel_auroc", "aupro"]
_COST = {"fit_seconds": "Fit (s)", "peak_rss_mib": "Memory (MiB)"}
ABLATION_COLUMNS = [
    *["dataset", "ablation", "of", "key", "value", "is_default", "variant", "trained_as"],
    *["n_seeds", "val_auroc_mean", "val_auroc_sd"],
    *[f"image_auroc_{part}" for part in ("mean", "sd", "low", "high")],
    *[f"{name}_{part}" for name in SHARES[2:] for part in ("mean", "sd")],
    *[f"{name}_{part}" for name in _COST for part in ("mean", "sd")],
]


def ablations_table(results: pd.DataFrame, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return mean and sd over seeds for every value of every ablation, categories averaged first.

    Args:
        results: Output of `results_table`.
        rows: Output of `aeflow.study.ablations.ablation_rows`.

    Returns:
        `ABLATION_COLUMNS`; `image_auroc_low` and `_high` are Student's 95 % interval over seeds.
        A value whose runs are not in `results` has no numbers.
    """
    texts = [
        row
        | {"value": row["value"] if isinstance(row["value"], str) else json.dumps(row["value"])}
        for row in rows
    ]
    table = pd.DataFrame(texts, columns=ABLATION_COLUMNS[:8])
    means = main_table(results).reindex(columns=["dataset", "variant", *ABLATION_COLUMNS[8:]])
    joined = table.astype(dict.fromkeys(_NAMES, "str")).merge(
        means, on=["dataset", "variant"], how="left"
    )
    return joined.astype({"n_seeds": "Int64"})


def read_ablations(path: Path) -> pd.DataFrame:
    """Read `ablations.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(
        path, ABLATION_COLUMNS, text=_NAMES, rule="collect_ablations", flags=["is_default"]
    ).astype({"n_seeds": "Int64"})


def ablations_display(table: pd.DataFrame) -> DisplayTable:
    """Return the ablations for people, the value that the changed variant has marked."""
    cells = pd.DataFrame(
        {
            "Dataset": table["dataset"],
            "Ablation": table["ablation"] + " of " + table["of"],
            "Key": table["key"],
            "Value": table["value"] + table["is_default"].map({True: " (default)", False: ""}),
            "Trained as": table["trained_as"],
            "Seeds": table["n_seeds"].astype("str").replace("<NA>", ""),
        }
    )
    labels = {"val_auroc": "Validation AUROC", **{name: LABELS[name] for name in SHARES[1:]}}
    for name, label in labels.items():
        pairs = zip(table[f"{name}_mean"], table[f"{name}_sd"], strict=True)
        cells[label] = [percent(mean, sd) for mean, sd in pairs]
        if name == "image_auroc":
            ends = zip(table["image_auroc_low"], table["image_auroc_high"], strict=True)
            cells["AUROC interval"] = [interval(low, high) for low, high in ends]
    for name, label in _COST.items():
        cells[label] = [number(mean, 1) for mean in table[f"{name}_mean"]]
    if not len(table):
        return plain(cells, "The configuration names no ablation of these datasets.", long=True)
    shown = plain(
        cells,
        "Percent, mean ± sd over seeds, categories averaged first; one key differs at a time. "
        "Interval: Student's 95 % interval over seeds. A variant's own value shares "
        "its training. Validation AUROC is empty where validation has no anomalies, pixel metrics "
        "where there are no masks or no map. F1 uses a threshold fitted on validation images, "
        "F1 (oracle) the best one for the test labels. Seconds and memory: one training's. Bold: "
        "best of an ablation, the oracle aside.",
        long=True,
    )
    judged = [name for name in SHARES if name != "oracle_f1" and labels[name] in shown.cells]
    marks = best(
        table, [f"{name}_mean" for name in judged], table["dataset"] + "/" + table["ablation"]
    )
    shown.bold[[labels[name] for name in judged]] = marks.to_numpy()
    return shown
