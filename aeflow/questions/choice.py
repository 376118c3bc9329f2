"""Which setting does validation choose? The cheapest within one standard error of the best."""

from pathlib import Path

import numpy as np
import pandas as pd

from aeflow.display.table import DisplayTable, number, percent, plain
from aeflow.judging.delong import mean_auroc
from aeflow.questions.results import read_table
from aeflow.scoring.predictions import Scored

_VALIDATED = [
    *["dataset", "variant", "val_auroc", "val_error", "fit_seconds"],
    *["best", "within_one_error", "chosen", "reason"],
]
_SHOWN = ["image_auroc_mean", "image_auroc_sd", "f1_mean", "f1_sd", "n_seeds"]
CHOICE_COLUMNS = [*_VALIDATED[:-1], *_SHOWN, "reason"]
_NAMES = ["dataset", "variant", "reason"]
_FLAGS = ["best", "within_one_error", "chosen"]
_CELL = ["dataset", "variant"]


def choose_settings(scored: Scored, fit_seconds: pd.DataFrame) -> pd.DataFrame:
    """Choose a variant per dataset by validation images: Breiman et al. (1984), one-SE rule.

    Best is the variant with the highest validation AUROC, mean over seeds, categories averaged.
    Within one standard error is every variant whose AUROC is at least the best's minus the best's
    standard error (DeLong's over the validation images). Chosen is the one of them with the
    smallest `fit_seconds`; among equals, as among scores of one training, the one with the higher
    AUROC, then the first. Equal AUROCs have no other rule than the order either.

    Args:
        scored: scores of the validation images, and of no others.
        fit_seconds: dataset, variant, fit_seconds: mean seconds per model.

    Returns:
        A row per variant in the order of `scored`: dataset, variant, val_auroc, val_error,
        fit_seconds, best, within_one_error, chosen, reason. A dataset whose validation images do
        not suffice has one row without variant, with a reason.

    Source: Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984,
    section 3.4.3.
    """
    seconds = fit_seconds.set_index(_CELL)["fit_seconds"]
    tables = [pd.DataFrame(columns=_VALIDATED)]
    for dataset, variants in scored.items():
        means = {
            name: mean_auroc([part.labelled for part in categories.values()])
            for name, categories in variants.items()
        }
        # All variants of a dataset have the same images, so what one lacks, all lack.
        if lacking := next((m.reason for m in means.values() if m.reason), None):
            reason = f"Validation images cannot choose. {lacking}"
            found = pd.DataFrame({"dataset": [dataset], "variant": "", "reason": reason})
            tables.append(found.reindex(columns=_VALIDATED))
            continue
        found = pd.DataFrame(
            {
                "dataset": dataset,
                "variant": list(means),
                "val_auroc": [mean.auroc for mean in means.values()],
                "val_error": [mean.standard_error for mean in means.values()],
                "fit_seconds": [seconds.loc[dataset, name] for name in means],
            }
        )
        tables.append(_ruled(found)[_VALIDATED])
    rows = [row for table in tables for row in table.to_dict("records")]
    table = pd.DataFrame(rows, columns=_VALIDATED)
    table[_FLAGS] = table[_FLAGS].eq(True)
    return table.astype(dict.fromkeys(["val_auroc", "val_error", "fit_seconds"], "float64"))


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
        reason="",
    )


def choice_table(chosen: pd.DataFrame, main: pd.DataFrame) -> pd.DataFrame:
    """Put test numbers beside a choice that was made without them.

    Args:
        chosen: Output of `choose_settings`.
        main: Output of `main_table`.

    Returns:
        `CHOICE_COLUMNS`, shares in [0, 1] and seconds.
    """
    shown = chosen.merge(main[[*_CELL, *_SHOWN]], how="left", on=_CELL)
    return shown[CHOICE_COLUMNS]


def read_choice(path: Path) -> pd.DataFrame:
    """Read `choice.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(path, CHOICE_COLUMNS, text=_NAMES, rule="choose_setting", flags=_FLAGS)


def chosen_variants(choice: pd.DataFrame) -> dict[str, str]:
    """Return dataset -> the variant that validation chose, where it chose one."""
    rows = choice[choice["chosen"]]
    return dict(zip(rows["dataset"], rows["variant"], strict=True))


def choice_display(choice: pd.DataFrame) -> DisplayTable:
    """Return the choice for people: the chosen row first and in bold, then the next best."""
    order = {name: place for place, name in enumerate(choice["dataset"].unique())}
    keys = ["chosen", "within_one_error", "val_auroc"]
    rows = choice.assign(place=choice["dataset"].map(order))
    rows = rows.sort_values(
        ["place", *keys], ascending=[True, *[False] * 3], kind="stable", ignore_index=True
    )
    cells = pd.DataFrame(
        {
            "Dataset": rows["dataset"],
            "Variant": rows["variant"],
            "Choice": [_role(*flags) for flags in rows[_FLAGS].to_numpy()],
            "Validation AUROC": [percent(value) for value in rows["val_auroc"]],
            "SE": ["" if np.isnan(e) else f"{100 * e:.2f}" for e in rows["val_error"]],
            "Seconds per model": [number(value, 1) for value in rows["fit_seconds"]],
            "Test AUROC": list(map(percent, rows["image_auroc_mean"], rows["image_auroc_sd"])),
            "Test F1": list(map(percent, rows["f1_mean"], rows["f1_sd"])),
            "Seeds": [number(count) for count in rows["n_seeds"]],
            "Reason": rows["reason"],
        }
    )
    if choice.empty:
        return plain(cells, "No variant of this study is one of our methods.", long=True)
    table = plain(
        cells,
        "Chosen: the fewest seconds of training per model among the variants whose validation "
        "AUROC is within one standard error (SE, the best one's) of the best (Breiman et al. "
        "1984); among equally dear ones the higher AUROC. The candidates are our methods, "
        "ablations too. SE: DeLong's over the validation images, of the mean over seeds. A "
        "fusion's seconds are the sum of its members'; seconds depend on the machine and on what "
        "else ran.\n"
        "No test label enters the choice: test AUROC and F1 (mean ± sd over seeds) are shown "
        "beside it. Percent.",
        long=True,
    )
    table.bold[:] = rows["chosen"].to_numpy()[:, None]
    return table


def _role(best: bool, within: bool, chosen: bool) -> str:
    if chosen:
        return "chosen, best" if best else "chosen"
    return "best" if best else "within one SE" if within else ""
