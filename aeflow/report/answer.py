"""What a study asked and what came out, in sentences and headlines made from its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from aeflow.core.types import Method
from aeflow.display.table import interval, percent, points
from aeflow.questions.variants import LEVEL, p_text
from aeflow.study.study import Study

_MOST_NAMED = 6
Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Answer:
    """What came out on one dataset.

    Attributes:
        dataset: its name.
        variant: the named one with the highest test AUROC; empty where none has an AUROC.
        sentences: the answer, the most important first.
        headlines: what, its value, and how to read it.
    """

    dataset: str
    variant: str
    sentences: list[str]
    headlines: list[tuple[str, str, str]] = field(default_factory=list)


def question(study: Study) -> str:
    """Return what was asked, as far as the configuration tells."""
    datasets, named = [entry.name for entry in study.datasets], [*map(study.label, study.named)]
    text = (
        f"How well {'does' if len(named) == 1 else 'do'} {listed(named)} tell anomalous images "
        f"of {listed(datasets)} from normal ones, having seen normal images only?"
    )
    if len(named) > 1:
        text += f" Is a difference to {study.label(study.reference)} more than chance?"
    if keys := list(dict.fromkeys(row["key"] for row in study.ablation_rows())):
        text += f" What {'does' if len(keys) == 1 else 'do'} {listed(keys)} change?"
    return text


def listed(names: Sequence[str]) -> str:
    """Return `a, b and c`; of many names the first ones and how many more."""
    shown = list(names)
    if len(shown) > _MOST_NAMED + 1:
        shown = [*shown[:_MOST_NAMED], f"{len(shown) - _MOST_NAMED} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def answers(
    study: Study, main: pd.DataFrame, comparison: pd.DataFrame, choice: pd.DataFrame
) -> list[Answer]:
    """Return the answer for each dataset of the main table.

    Args:
        main, comparison, choice: the tables of these names; the latter two may have no rows.
    """
    return [
        _answer(
            study, *(table[table["dataset"] == dataset] for table in (main, comparison, choice))
        )
        for dataset in main["dataset"].unique()
    ]


def _answer(
    study: Study, main: pd.DataFrame, comparison: pd.DataFrame, choice: pd.DataFrame
) -> Answer:
    named = main[main["variant"].isin(study.named)]
    dataset = str(main["dataset"].iloc[0])
    rows: dict[Any, Row] = {row["variant"]: row for row in comparison.to_dict("records")}
    if named["image_auroc_mean"].isna().all():
        reasons = dict.fromkeys(filter(None, (row["reason"] for row in rows.values())))
        why = " ".join(list(reasons)[:1])
        return Answer(dataset, "", [f"No variant has a test AUROC on {dataset}. {why}".strip()])
    best: Row = named.nlargest(1, "image_auroc_mean").to_dict("records")[0]
    row = rows.get(best["variant"], {})
    told, headline = _difference(study, best["variant"], rows)
    sentences = [
        _lead(study, best, row, len(named)),
        told,
        _beating(study, rows, best["variant"]),
        _trivial(study, named, best["variant"]),
        _at_threshold(best),
        _validated(study, main, choice, best["variant"]),
    ]
    headlines = [
        (
            "AUROC",
            _percent(best["image_auroc_mean"]),
            _over_images(row) or study.label(best["variant"]),
        ),
        ("Anomalies found", _percent(best["sensitivity_mean"]), "at validation's threshold"),
        ("False alarms", _percent(1 - best["specificity_mean"]), "of the normal test images"),
        ("AUPRO", _percent(best["aupro_mean"]), "where the defects are"),
        headline,
    ]
    found = [headline for headline in headlines if headline[1]]
    return Answer(dataset, best["variant"], list(filter(None, sentences)), found)


def _percent(share: float) -> str:
    return "" if pd.isna(share) else f"{percent(share)} %"


def _over_images(row: Row) -> str:
    ends = interval(*(row.get(f"auroc_{end}", float("nan")) for end in ("low", "high")))
    return f"{ends}, 95 % over test images" if ends else ""


def _lead(study: Study, best: Row, row: Row, variants: int) -> str:
    """Return the sentence on the highest AUROC."""
    lead = "has the highest test AUROC" if variants > 1 else "has a test AUROC"
    among = f" of {variants} variants" if variants > 1 else ""
    seeds, categories = int(best["n_seeds"]), int(best["n_categories"])
    sure = [
        _over_images(row),
        f"± {100 * best['image_auroc_sd']:.1f} over {seeds} seeds" if seeds > 1 else "one seed",
        f"mean of {categories} categories" if categories > 1 else "",
    ]
    return (
        f"On {best['dataset']}, {study.label(best['variant'])} {lead}{among}: "
        f"{_percent(best['image_auroc_mean'])} ({'; '.join(filter(None, sure))})."
    )


def _difference(
    study: Study, best: str, rows: Mapping[Any, Row]
) -> tuple[str, tuple[str, str, str]]:
    """Return the sentence on the difference to the reference, or to the others, and a headline."""
    reference, nothing = study.reference, ("", "", "")
    if best != reference:
        row = rows.get(best, {})
        if pd.isna(row.get("difference")):
            return str(row.get("reason", "")), nothing
        value = points(row["difference"])
        known = "real by the study's tests" if row["claim"] else "not shown to be real"
        lead = f"Its {value} points to the reference {study.label(reference)} are"
        told = f"{lead} {_why(study, best, row)}"
        return told, (f"To {study.label(reference)}", f"{value} points", known)
    others = {name: row for name, row in rows.items() if name != reference}
    others = {name: row for name, row in others.items() if pd.notna(row["difference"])}
    if not others:
        return "", nothing
    beaten = [name for name, row in others.items() if row["claim"] and row["difference"] < 0]
    rest = [name for name in others if name not in beaten]
    parts = [
        f"shown to be better than {listed([*map(study.label, beaten)])}" if beaten else "",
        f"not shown to be better than {listed([*map(study.label, rest)])}" if rest else "",
    ]
    told = f"By the study's tests it is {', but '.join(filter(None, parts))}."
    next_best = max(others, key=lambda name: others[name]["difference"])
    known = "real by the study's tests" if next_best in beaten else "not shown to be real"
    lead = f"{points(-others[next_best]['difference'])} points"
    return told, (f"To {study.label(next_best)}, the next", lead, known)


def _why(study: Study, variant: str, row: Row) -> str:
    """Return what the tests say of a difference to the reference: `real: ...`."""
    trained = any(study.draws(side) for side in (variant, study.reference))
    seeds = f"{points(row['seed_low'])} to {points(row['seed_high'])}"
    if row["claim"]:
        second = f"over seeds 95 % are {seeds}" if trained else "nothing is trained on either side"
        p_value = p_text(row["p_holm"])
        p_value = p_value if p_value.startswith("<") else f"= {p_value}"
        return f"real by the study's tests: p {p_value} (DeLong, Holm), and {second}."
    doubts = []
    if row["p_holm"] >= LEVEL:
        doubts.append(f"other test images may show none (p = {p_text(row['p_holm'])})")
    if row["seed_low"] <= 0 <= row["seed_high"]:
        doubts.append(f"other trainings may show none (95 % over seeds: {seeds})")
    told = f"not shown to be real{': ' * bool(doubts)}{'; '.join(doubts)}."
    return f"{told} {row['reason']}".strip()


def _beating(study: Study, rows: Mapping[Any, Row], best: str) -> str:
    """Return which others are shown to be better than the reference: not always the highest."""
    reference = study.reference
    shown = [
        f"{study.label(name)} ({points(row['difference'])})"
        for name, row in rows.items()
        if name not in (best, reference) and row["claim"] and row["difference"] > 0
    ]
    return f"Shown to be better than {study.label(reference)}: {listed(shown)}." if shown else ""


def _trivial(study: Study, named: pd.DataFrame, best: str) -> str:
    """Return where one number per image stands."""
    trivial = named[named["method"] == Method.GRADIENT]
    if trivial.empty or trivial["image_auroc_mean"].isna().any():
        return ""
    name, auroc = trivial["variant"].iloc[0], _percent(trivial["image_auroc_mean"].iloc[0])
    if name == best:
        return "It is the trivial baseline, one number per image: nothing here beats it."
    return f"The trivial baseline {study.label(name)}, one number per image, has {auroc}."


def _at_threshold(best: Row) -> str:
    found, alarms = best["sensitivity_mean"], 1 - best["specificity_mean"]
    if pd.isna(found) or pd.isna(alarms):
        return ""
    return (
        f"At the threshold fitted on validation images it finds {_percent(found)} of the "
        f"anomalous test images, and calls {_percent(alarms)} of the normal ones anomalous."
    )


def _validated(study: Study, main: pd.DataFrame, choice: pd.DataFrame, best: str) -> str:
    """Return what validation alone chooses: of many variants, one is highest by chance."""
    chosen = choice.loc[choice["chosen"], "variant"]
    if chosen.empty:
        return ""
    name = chosen.iloc[0]
    if name == best:
        return "Validation images alone choose it too."
    auroc = main.loc[main["variant"] == name, "image_auroc_mean"]
    called = study.label(name)
    return (
        f"Validation images alone choose {called}, whose test AUROC is {_percent(auroc.iloc[0])}."
    )
