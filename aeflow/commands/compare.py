"""Two studies side by side: numbers with tests, settings that differ (`aeflow compare`)."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from aeflow.commands.studies import find_study
from aeflow.core.errors import ConfigError, DataError
from aeflow.core.receipts import differences
from aeflow.core.text import one_line
from aeflow.core.types import Split
from aeflow.display.table import LABELS, percent, points, read_table
from aeflow.judging.delong import Comparison, compare_aurocs, holm, mean_comparison
from aeflow.questions.source import means
from aeflow.questions.variants import p_text
from aeflow.scoring.predictions import SeedScores, read_predictions
from aeflow.study.cells import Cell, path, study_cells
from aeflow.study.study import Study

METRICS = ("image_auroc", "f1", "pixel_auroc", "aupro")
WHOLE = {"seeds", "data", "evaluation", "max_cache_gib"}  # settings of no cell
APART = {"settings", "seen"}  # of a dataset's entry: told by cell, or no setting
OWN = {"method", "members"}  # of a variant, beside its settings
SHOWN = 3
Named = tuple[str, str]  # a dataset and a variant


def compare_studies(first: str, second: str) -> None:
    """Print numbers and settings of the named variants that two studies share.

    Raises:
        ConfigError: they are one study, or share no named variant on a dataset.
    """
    one, other = find_study(first), find_study(second)
    if one.study == other.study:
        raise ConfigError(f"{one.study} is compared with itself: name two studies.")
    here, there = _variants(one), _variants(other)
    named = {*one.named} & {*other.named}
    shared = [pair for pair in here if pair in there and pair[1] in named]
    if not shared:
        told = [f"{s.study} has {', '.join(s.named)} on {_listed(s)}" for s in (one, other)]
        raise ConfigError(f"No named variant on a dataset is in both: {'; '.join(told)}.")
    _print_numbers(one, other, shared)
    _print_settings(one, other, shared)
    for study, own, others in ((one, here, there), (other, there, here)):
        only: dict[str, list[str]] = {}
        for dataset, variant in [pair for pair in own if pair not in others]:
            only.setdefault(dataset, []).append(variant)
        for dataset, variants in only.items():
            print(f"Only {study.study} has, on {dataset}: {', '.join(variants)}")


def _variants(study: Study) -> list[Named]:
    return list(dict.fromkeys((cell.dataset, cell.variant) for cell in study_cells(study)))


def _listed(study: Study) -> str:
    return ", ".join(entry.name for entry in study.datasets)


def _print_numbers(one: Study, other: Study, shared: list[Named]) -> None:
    rows = [_row(one, other, *pair) for pair in shared]
    for dataset in dict.fromkeys(dataset for dataset, _ in shared):  # a family of tests
        own = [row for row in rows if row["dataset"] == dataset]
        for row, p in zip(own, holm([row["p (Holm)"] for row in own]), strict=True):
            row["p (Holm)"] = p_text(p)
    untested: dict[str, list[str]] = {}
    for row in rows:
        if why := row.pop("why"):
            untested.setdefault(why, []).append(f"{row['dataset']}/{row['variant']}")
    heads = [name for name in rows[0] if any(row[name] for row in rows)]
    print(tabulate([[row[name] for name in heads] for row in rows], heads, disable_numparse=True))
    print(
        f"\nPercent, {one.study} / {other.study}, means over seeds. Difference of AUROC: "
        f"{other.study} minus {one.study}, with\nDeLong's interval and paired test on the same "
        "test images; it holds what was trained fixed."
    )
    for why, whom in untested.items():
        print(f"No test of {', '.join(whom)}: {why}")
    print()


def _row(one: Study, other: Study, dataset: str, variant: str) -> dict[str, Any]:
    """Return what is shown of a variant of two studies; `p (Holm)` is not corrected yet."""
    categories = [c for c in one.categories(dataset) if c in other.categories(dataset)]
    tested, reason = _tested(one, other, dataset, variant, categories)
    metrics = [_metrics(study, dataset, variant, categories) for study in (one, other)]
    if tested.first is not None and tested.second is not None:
        metrics[0]["image_auroc"], metrics[1]["image_auroc"] = tested.second, tested.first
    row: dict[str, Any] = {"dataset": dataset, "variant": variant}
    for metric in METRICS:
        pair = [percent(found.get(metric, np.nan)) for found in metrics]
        row[LABELS[metric]] = " / ".join(shown or "none" for shown in pair) if any(pair) else ""
    low, high = tested.low, tested.high
    return row | {
        "difference": "" if tested.difference is None else points(tested.difference),
        "95 %": "" if low is None or high is None else f"{points(low)} to {points(high)}",
        "p (Holm)": np.nan if tested.p_value is None else tested.p_value,
        "why": reason,
    }


def _metrics(
    study: Study, dataset: str, variant: str, categories: list[str]
) -> dict[Hashable, Any]:
    """Return the means over seeds, categories averaged before; empty: there is no such table."""
    table = path(study, "csv", {"table": "results"})
    if not table.exists():
        return {}
    results = read_table(table)
    own = (results["dataset"] == dataset) & (results["variant"] == variant)
    rows = results[own & results["category"].isin(categories)]
    found = means(rows, ["dataset", "variant"], METRICS).to_dict("records")
    return {name: found[0][f"{name}_mean"] for name in METRICS} if found else {}


def _tested(
    one: Study, other: Study, dataset: str, variant: str, categories: list[str]
) -> tuple[Comparison, str]:
    """Return the test of a variant's AUROCs, the second study's first, or why there is none."""
    if not categories:
        return Comparison(), "They have no category in common."
    try:
        first, second = (_scores(study, dataset, variant, categories) for study in (one, other))
        parts = [_paired(second[name], first[name], name) for name in categories]
    except DataError as error:
        return Comparison(), one_line(str(error))
    tested = mean_comparison([compare_aurocs(*part) for part in parts])
    return tested, tested.reason or ""


def _scores(
    study: Study, dataset: str, variant: str, categories: list[str]
) -> dict[str, SeedScores]:
    """Return a variant's scores of test images by category; DataError: it has none."""
    cells = [
        Cell(dataset, category, variant, seed)
        for category in categories
        for seed in study.seeds_of(variant)
    ]
    found = read_predictions(study, cells, Split.TEST).get(dataset, {}).get(variant)
    if found is None:
        raise DataError(f"{study.study}/{variant} has no score: its metrics say why.")
    return found


def _paired(first: SeedScores, second: SeedScores, category: str) -> tuple[Any, Any, Any]:
    """Return labels and both scores, image by image; DataError: they are of other test images."""
    order = pd.Index(second.images["image_id"]).get_indexer(first.images["image_id"])
    labels = first.images["gt_label"].to_numpy(int)
    if len(first.images) != len(second.images) or (order < 0).any():
        raise DataError(f"Other test images ({category}).")
    if (second.images["gt_label"].to_numpy(int)[order] != labels).any():
        raise DataError(f"Other labels of test images ({category}).")
    return labels, first.score, second.score[order]


def _print_settings(one: Study, other: Study, shared: list[Named]) -> None:
    """Print the settings of what they share that differ, each once, with whom it concerns."""
    both = (one, other)
    pairs = {"": [study.model_dump(mode="json", include=WHOLE) for study in both]}
    for dataset, variant in shared:
        entries = [study.dataset(dataset) for study in both]
        pairs[dataset] = [entry.model_dump(mode="json", exclude=APART) for entry in entries]
        chosen = [study.variant(variant) for study in both]
        pairs[f"{dataset}/{variant}"] = [
            study.cell(dataset, variant).model_dump(mode="json")
            | own.model_dump(mode="json", include=OWN)
            for study, own in zip(both, chosen, strict=True)
        ]
    found: dict[str, list[str]] = {}
    for whom, pair in pairs.items():
        for text in differences(pair[0], pair[1]):
            found.setdefault(text, []).append(whom)
    print(f"Settings of {one.study}, not of {other.study}:" if found else "No setting differs.")
    cells = [f"{dataset}/{variant}" for dataset, variant in shared]
    for text, whose in found.items():
        told = ", ".join(whose[:SHOWN]) + (
            f" and {len(whose) - SHOWN} more" * (len(whose) > SHOWN)
        )
        told = "every variant" if whose == cells and len(cells) > 1 else told
        print(f"  {text}{f' ({told})' if told else ''}")
