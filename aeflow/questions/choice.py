"""Which setting does validation choose? The cheapest within one standard error of the best."""

from typing import Any

import pandas as pd

from aeflow.core.types import Split
from aeflow.display.table import DisplayTable, number, percent, percents, plain
from aeflow.judging.delong import mean_auroc
from aeflow.questions.source import Source

_FLAGS = ["best", "within_one_error", "chosen"]
_VALIDATED = ["dataset", "variant", "val_auroc", "val_error", "fit_seconds", *_FLAGS]
_SHOWN = ["image_auroc_mean", "image_auroc_sd", "f1_mean", "f1_sd", "n_seeds"]


def choice_table(source: Source) -> pd.DataFrame:
    """Choose a variant per dataset by validation images: Breiman et al. (1984), one-SE rule.

    Best is the variant with the highest validation AUROC, mean over seeds, categories averaged.
    Within one standard error is every variant whose AUROC is at least the best's minus the best's
    standard error (DeLong's over the validation images). Chosen is the one of them with the
    smallest `fit_seconds`, mean per model; among equals, as among scores of one training, the one
    with the higher AUROC, then the first. Equal AUROCs have no other rule than the order either.

    Returns:
        A row per dataset and candidate, with test numbers beside a choice that was made without
        them. A dataset whose validation images do not suffice has one row without variant, with a
        reason.

    Source: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984,
    section 3.4.3.
    """
    main = source.table("main")
    seconds = main.set_index(["dataset", "variant"])["fit_seconds_mean"]
    rows: list[Any] = []
    for dataset, variants in source.predictions(Split.VALIDATION).items():
        found = {
            name: mean_auroc([part.labelled for part in categories.values()])
            for name, categories in variants.items()
        }
        # All variants of a dataset have the same images, so what one lacks, all lack.
        if lacking := next((mean.reason for mean in found.values() if mean.reason), None):
            reason = f"Validation images cannot choose. {lacking}"
            rows.append({"dataset": dataset, "variant": "", "reason": reason})
            continue
        table = pd.DataFrame(
            {
                "dataset": dataset,
                "variant": list(found),
                "val_auroc": [mean.auroc for mean in found.values()],
                "val_error": [mean.standard_error for mean in found.values()],
                "fit_seconds": [seconds.loc[dataset, name] for name in found],
            }
        )
        rows += _ruled(table).to_dict("records")
    chosen = pd.DataFrame(rows, columns=[*_VALIDATED, "reason"])
    shown = chosen.merge(main[["dataset", "variant", *_SHOWN]], how="left")
    return shown[[*_VALIDATED, *_SHOWN, "reason"]]


def _ruled(table: pd.DataFrame) -> pd.DataFrame:
    """Add best, within_one_error and chosen to the variants of one dataset."""
    best = int(table["val_auroc"].to_numpy().argmax())
    # An AUROC that is exactly one standard error lower may miss it by rounding.
    limit = table["val_auroc"][best] - table["val_error"][best] - 1e-12
    within = table["val_auroc"] >= limit
    order = table[within].sort_values(
        ["fit_seconds", "val_auroc"], ascending=[True, False], kind="stable"
    )
    return table.assign(
        best=table.index == best,
        within_one_error=within,
        chosen=table.index == order.index[0],
    )


def choice_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return the choice for people: the chosen row first and in bold, then the next best."""
    place = {name: place for place, name in enumerate(table["dataset"].unique())}
    rows = table.assign(place=table["dataset"].map(place)).sort_values(
        ["place", "chosen", "within_one_error", "val_auroc"],
        ascending=[True, False, False, False],
        kind="stable",
        ignore_index=True,
    )
    cells = pd.DataFrame(
        {
            "Dataset": rows["dataset"],
            "Variant": rows["variant"],
            "Choice": [_role(*flags) for flags in rows[_FLAGS].to_numpy()],
            "Validation AUROC": rows["val_auroc"].map(percent),
            "SE": [number(100 * error, 2) for error in rows["val_error"]],
            "Seconds per model": [number(value, 1) for value in rows["fit_seconds"]],
            "Test AUROC": percents(rows, "image_auroc"),
            "Test F1": percents(rows, "f1"),
            "Seeds": rows["n_seeds"].map(number),
            "Reason": rows["reason"],
        }
    )
    if table.empty:
        return plain(cells, "No variant of this study is one of our methods.", long=True)
    if not table["chosen"].any():
        return plain(cells[:0], " ".join(dict.fromkeys(table["reason"])), long=True)
    if not table["dataset"].duplicated().any():
        return plain(cells[:0], "There is one candidate only.", long=True)
    shown = plain(
        cells,
        "Chosen: the fewest seconds of training per model among the variants whose validation "
        "AUROC is within one standard error (SE, the best one's) of the best (Breiman et al. "
        "1984); among equally dear ones the higher AUROC. The candidates are our methods, "
        "ablations too, but not those of a score's definition. SE: DeLong's over the validation "
        "images, of the mean over seeds. A fusion's seconds are the sum of its members'; seconds "
        "depend on the machine and on what else ran.\n"
        "No test label enters the choice: test AUROC and F1 (mean ± sd over seeds) are shown "
        "beside it. Percent.",
        long=True,
    )
    shown.bold[:] = rows["chosen"].to_numpy()[:, None]
    return shown


def _role(best: bool, within: bool, chosen: bool) -> str:
    if chosen:
        return "chosen, best" if best else "chosen"
    return "best" if best else "within one SE" if within else ""
