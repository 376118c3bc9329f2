"""Is a fusion certain when it is right? Its members disagree where it is uncertain.

Metrics and areas are means over a dataset's categories, and over the seeds of a fusion that has
several. Counts are summed over both, and the error rates are those of the summed counts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.types import Method
from aeflow.display.table import DisplayTable, best, interval, number, percent, plain
from aeflow.questions.source import Source
from aeflow.study.study import Study

_MEANS = ["image_auroc", "f1", "aurc", "aurc_optimal", "aurc_excess"]
_COUNTS = ["right_certain", "wrong_certain", "right_uncertain", "wrong_uncertain"]
_IMAGES = ["n_test_normal", "n_test_anomalous"]
CERTAINTY_COLUMNS = [
    *["dataset", "variant", "n_members", "n_seeds", "n_categories", "n_test"],
    *["image_auroc", "member_auroc_mean", "member_auroc_lowest", "member_auroc_highest", "f1"],
    *["error_rate", *_COUNTS, "error_rate_certain", "error_rate_uncertain"],
    *["aurc", "aurc_optimal", "aurc_excess", "reason"],
]
_SHARES = {
    "error_rate": "Errors of all",
    "error_rate_certain": "Errors of the certain",
    "error_rate_uncertain": "Errors of the uncertain",
    "aurc": "AURC",
    "aurc_optimal": "AURC at best",
    "aurc_excess": "AURC excess",
}
_NOTE = (
    "Percent but for the counts of test images. Members are the seeds of a variant, or several "
    "variants, each standardised over its validation normals; score and uncertainty are their "
    "mean and sd. Right and wrong: at the threshold fitted on validation images. Certain: "
    "uncertainty at most the median of the validation images. AURC: area under the risk-coverage "
    "curve, the mean error rate of the k most certain images; at best: were every error less "
    "certain than every right image. Bold: highest of a dataset; no test says that it is better."
)
# The published counts, read in the order in which PA's code writes them.
_PA_NOTE = (
    "PA's ensemble of three on chest X-ray, raw scores averaged, a limit of certainty chosen by "
    "hand: right and certain 198, right and uncertain 192, wrong and certain 90, wrong and "
    "uncertain 144 of 624: 31.2 % errors among the certain, 42.9 % among the uncertain, 37.5 % "
    "in all. Its 390 right and 234 wrong images are as many as the test has anomalous and normal "
    "ones, as if every image had been called anomalous."
)


def certainty_table(source: Source) -> pd.DataFrame:
    """Return one row per dataset and fusion.

    Returns:
        `CERTAINTY_COLUMNS`. What one category lacks is NaN, and `reason` says why.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in source.runs():
        if run["method"] == Method.FUSION:
            groups.setdefault((run["dataset"], run["variant"]), []).append(run)
    rows = [_row(source.study, *key, runs) for key, runs in groups.items()]
    return pd.DataFrame(rows, columns=CERTAINTY_COLUMNS)


def _row(
    study: Study, dataset: str, variant: str, runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the table's row of one fusion, from its runs: a category and seed each."""
    judged = [run["certainty"] or {} for run in runs]
    values = pd.DataFrame([run | found for run, found in zip(runs, judged, strict=True)])
    values = values.reindex(columns=[*_MEANS, *_COUNTS, *_IMAGES]).astype(float)
    members = study.variant(variant).members
    row: dict[str, Any] = {
        **{"dataset": dataset, "variant": variant},
        "n_members": len(members if len(members) > 1 else study.seeds_of(members[0])),
        "n_seeds": len({run["seed"] for run in runs}),
        "n_categories": len({run["category"] for run in runs}),
        "n_test": values[_IMAGES].sum(skipna=False).sum(skipna=False),
        **dict(zip(_MEANS, values[_MEANS].mean(skipna=False), strict=True)),
        **dict(zip(_COUNTS, values[_COUNTS].sum(skipna=False), strict=True)),
    }
    if all(found.get("member_auroc") for found in judged):
        aurocs = np.mean([found["member_auroc"] for found in judged], axis=0)
        ends = {"mean": aurocs.mean(), "lowest": aurocs.min(), "highest": aurocs.max()}
        row |= {f"member_auroc_{name}": value for name, value in ends.items()}
    sentences = {run["reasons"].get(name) for run in runs for name in ("image_auroc", "certainty")}
    wrong = row["wrong_certain"] + row["wrong_uncertain"]
    row["error_rate"] = wrong / row["n_test"] if row["n_test"] else np.nan
    for name in ("certain", "uncertain"):
        images = row[f"right_{name}"] + row[f"wrong_{name}"]
        row[f"error_rate_{name}"] = row[f"wrong_{name}"] / images if images else np.nan
        if images == 0:
            sentences.add(f"No test image is {name}.")
    return row | {"reason": " ".join(sorted(filter(None, sentences)))}


def certainty_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return `certainty_table` for people; PA's numbers stand below those of chest X-ray."""
    cells = pd.DataFrame({"Dataset": table["dataset"], "Variant": table["variant"]})
    if table.empty:
        return plain(
            cells,
            "The study has no ensemble: one is a variant of the method fusion, whose members "
            "are a variant with two seeds or more, or several variants.",
        )
    cells["Members"] = table["n_members"].astype(str)
    cells["Seeds"] = [str(count) if count > 1 else "" for count in table["n_seeds"]]
    cells["AUROC"] = [percent(value) for value in table["image_auroc"]]
    cells["Members, mean"] = [percent(value) for value in table["member_auroc_mean"]]
    ends = table["member_auroc_lowest"], table["member_auroc_highest"]
    cells["Members, lowest to highest"] = list(map(interval, *ends))
    cells["F1"] = [percent(value) for value in table["f1"]]
    for name in _COUNTS:
        cells[name.replace("_", ", ").capitalize()] = [number(count, 0) for count in table[name]]
    for name, label in _SHARES.items():
        cells[label] = [percent(value) for value in table[name]]
    cells["Why empty"] = table["reason"].fillna("")
    several = table[table["n_categories"] > 1].drop_duplicates("dataset")
    note = _NOTE + "".join(
        f" {name}: mean over {count} categories; counts are summed, and errors theirs."
        for name, count in zip(several["dataset"], several["n_categories"], strict=True)
    )
    if (table["n_seeds"] > 1).any():
        note += " Several seeds: the same, over them."
    entries = source.study.datasets
    compared = {entry.name for entry in entries if entry.card_name == "chest_xray"}
    if compared & set(table["dataset"]):
        note += "\n" + _PA_NOTE
    display = plain(cells, note)
    if "AUROC" in display.cells:
        display.bold["AUROC"] = best(table, ["image_auroc"], table["dataset"])["image_auroc"]
    return display
