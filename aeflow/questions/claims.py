"""Does it reproduce? The paper's and the reproductions' numbers, and ours beside them."""

from typing import Any

import numpy as np
import pandas as pd

from aeflow.core.types import Method
from aeflow.display.dots import bars, keep_whole, row_panels
from aeflow.display.figure import DARK, ORANGE, ROW, TWO_COLUMNS, Caption, Drawing
from aeflow.display.table import (
    LABELS,
    DisplayTable,
    intervals,
    number,
    percents,
    plain,
    points,
)
from aeflow.questions.source import Publication, PublishedNumbers, Source
from aeflow.study.cards import load_dataset_card
from aeflow.study.entries import DatasetEntry

COMPARED = ["image_auroc", "f1", "accuracy", "sensitivity", "specificity"]
_CLAIMS = [
    *("dataset", "who", "detail", "metric", "printed", "published"),
    *("variant", "role", "encoder", "ours_metric"),
    *("ours_mean", "ours_sd", "ours_low", "ours_high", "n_seeds"),
    *("difference", "verdict", "why"),
]
_ORACLE = "test (oracle)"
_PAPER_ENCODER = "wide_resnet50_2-stage3"
_WIDE = 0.1
_FIRST, _CHOSEN = "the first AE-FLOW", "chosen by validation"


def claims_table(source: Source) -> pd.DataFrame:
    """Return every published number beside ours, with a verdict.

    Ours are the dataset's first variant of the method aeflow and the variant that
    validation chose. Published numbers belong to a card, ours to an entry of the study: they
    stand beside every entry with that card. An entry with another split than its card's, or with
    some of its categories, is another experiment on the same images, so `not comparable`.

    The rule: `within` if our 95 % interval over seeds (Student's, `main.csv`) reaches the
    published value, give or take half a unit of its last printed digit ("96" is 95.5 to 96.5);
    else `above` or `below`: ours lies above or below it. `within` means "not shown to differ", not
    "equal"; of an interval of more than `_WIDE`, as few seeds have it, not even that is said: it
    reaches nearly any number, so the verdict is `undecided`. `not run`: the study has no such
    dataset or variant. `not comparable`: `why` says why; there is no verdict without an interval,
    and none where they fitted the threshold on test labels, but for F1, which stands beside our
    oracle F1.

    Returns:
        A row per number and variant of ours. Shares in [0, 1] but for `printed`, the percent as
        printed; `difference` is ours minus theirs.
    """
    main, choice, published = source.table("main"), source.table("choice"), source.published()
    chosen = choice[choice["chosen"]].set_index("dataset")["variant"].to_dict()
    rows = []
    for theirs in published.numbers:
        entries = [e for e in source.study.datasets if e.card_name == theirs.dataset]
        ours = [
            (entry.name, run, _other_experiment(entry))
            for entry in entries
            for run in _ours(main, entry.name, chosen.get(entry.name))
        ]
        for metric in COMPARED:
            printed = getattr(theirs, metric)
            if printed is not None:
                claim: dict[str, Any] = {"who": theirs.who, "detail": theirs.detail}
                claim |= {"metric": metric, "printed": printed, "published": float(printed) / 100}
                rows += [
                    {"dataset": dataset, **claim}
                    | _judged(theirs, claim, published.sources[theirs.who], run, other)
                    for dataset, run, other in ours or [(theirs.dataset, {}, None)]
                ]
    return pd.DataFrame(rows, columns=_CLAIMS)


def _ours(main: pd.DataFrame, dataset: str, chosen: str | None) -> list[dict[str, Any]]:
    """Return our rows to stand beside a dataset's numbers; one empty row if there are none."""
    rows = main[main["dataset"] == dataset]
    roles = dict.fromkeys(rows.loc[rows["method"] == Method.AEFLOW, "variant"][:1], _FIRST)
    if chosen is not None:
        roles[chosen] = f"{_FIRST}, {_CHOSEN}" if chosen in roles else _CHOSEN
    found: dict[str, Any] = {str(row["variant"]): row for row in rows.to_dict("records")}
    ours = [{**found[name], "role": role} for name, role in roles.items() if name in found]
    return ours or [{}]


def _other_experiment(entry: DatasetEntry) -> str | None:
    """Return why an entry is not the experiment of its card's published numbers."""
    card = load_dataset_card(entry.card_name)
    if entry.categories is not None and {*entry.categories} != {*card.categories}:
        return f"ours has the categories {', '.join(entry.categories)} alone"
    if entry.split is not None and entry.split != card.split:
        return f"our split is {entry.split}, not the published one"
    return None


def _judged(
    theirs: PublishedNumbers,
    claim: dict[str, Any],
    publication: Publication,
    ours: dict[str, Any],
    other: str | None,
) -> dict[str, Any]:
    """Return our part of a row; `other` says why ours is another experiment."""
    metric, remarks = claim["metric"], [theirs.remark] if theirs.remark else []
    if not ours:
        why = ["this study has no such dataset or variant", *remarks]
        return {"ours_metric": metric, "verdict": "not run", "why": "; ".join(why)}
    oracle = publication.threshold == _ORACLE and metric != "image_auroc"
    name = "oracle_f1" if oracle and metric == "f1" else metric
    row = {f"ours_{end}": ours[f"{name}_{end}"] for end in ("mean", "sd", "low", "high")}
    if name == "oracle_f1":
        remarks.append("both F1 at a threshold fitted on test labels")
    elif oracle:
        remarks.append("their threshold was fitted on test labels, ours on validation images")
    elif metric != "image_auroc" and publication.threshold == "not stated":
        remarks.append("their threshold is not stated")
    if ours["encoder"] not in ("", _PAPER_ENCODER):  # a fusion has none of its own
        remarks.append(f"our encoder is {ours['encoder']}, the paper's {_PAPER_ENCODER}")
    if other:
        remarks.insert(0, other)
    verdict = "not comparable"
    if not other and (not oracle or name == "oracle_f1"):
        row["difference"] = row["ours_mean"] - claim["published"]
        verdict = _verdict(claim["published"], claim["printed"], row)
        if np.isnan(row["ours_mean"]):
            remarks.insert(0, "this study has no such value")
        elif np.isnan(row["ours_low"]):
            remarks.insert(0, "one seed has no interval")
    row |= {key: ours[key] for key in ("variant", "role", "encoder", "n_seeds")}
    return row | {"ours_metric": name, "verdict": verdict, "why": "; ".join(remarks)}


def _verdict(value: float, printed: str, ours: dict[str, float]) -> str:
    low, high = ours["ours_low"], ours["ours_high"]  # cut at 0 and 1
    if np.isnan(low):
        return "not comparable"
    half = 10.0 ** -len(printed.partition(".")[2]) / 200
    slack = half + 1e-9  # an interval that ends at the rounding's end reaches it
    if low > value + slack:
        return "above"
    if high < value - slack:
        return "below"
    return "within" if high - low <= _WIDE else "undecided"


def claims_display(table: pd.DataFrame, source: Source) -> DisplayTable:
    """Return the claims for people, with the rule and a note on what differs.

    Those of datasets or variants that the study has not are in the data alone.
    """
    table = table[table["verdict"] != "not run"].reset_index(drop=True)
    cells = pd.DataFrame(
        {
            "Dataset": table["dataset"],
            "Who": table["who"],
            "Detail": table["detail"],
            "Metric": table["metric"].map(LABELS),
            "Published": table["printed"],
            "Variant": table["variant"],
            "Role": table["role"],
            "Ours": percents(table, "ours"),
            "95 % interval": intervals(table, "ours"),
            "Seeds": table["n_seeds"].map(number),
            "Difference": table["difference"].map(points),
            "Verdict": table["verdict"],
            "Why": table["why"],
        }
    )
    if table.empty:
        return plain(cells, "No numbers are published for the datasets of this study.")
    notes = [
        "Percent; ours mean ± sd over seeds, Student's interval of the mean, cut at 0 and 100. "
        "Within: the interval reaches the published value, give or take half a unit of its last "
        "printed digit, so a difference is not shown; above, below: ours is; undecided: it "
        f"reaches it, but is wider than {100 * _WIDE:.0f} points. Published numbers are quoted as "
        "printed.",
        *(f"{who}: {found.differs}" for who, found in source.published().sources.items()),
    ]
    return plain(cells, "\n".join(notes))


def plot_claims(source: Source, dataset: str) -> Drawing:
    """Draw published numbers and ours, a panel per metric, a row per source and variant."""
    claims = source.table("claims")
    rows = claims[claims["dataset"] == dataset]
    rows = rows.assign(printer=(rows["who"] + ", " + rows["detail"]).str.removesuffix(", "))
    ours = rows[rows["variant"] != ""].drop_duplicates(["variant", "ours_metric"])
    roles = dict(zip(ours["variant"], ours["role"], strict=True))
    names = list(dict.fromkeys(rows["printer"]))
    shown = [metric for metric in LABELS if metric in set(rows["ours_metric"])]
    label = source.study.label
    labels = [*names, *(f"{label(name)}\n({role})" for name, role in roles.items())]
    lines = len(names) + 2 * len(roles)
    figure, panels = row_panels(labels, len(shown), (TWO_COLUMNS, ROW * lines + 0.7))
    for axes, metric in zip(panels, shown, strict=True):
        axes.axhline(len(names) - 0.5, color="0.6", linewidth=0.8)
        printed = rows[rows["ours_metric"] == metric]
        for printer, value in zip(printed["printer"], printed["published"], strict=True):
            fill = ORANGE if printer.startswith("paper") else "white"
            look: dict[str, Any] = {"color": ORANGE, "markerfacecolor": fill}
            axes.plot(100 * value, names.index(printer), "D", **look)
        own = ours[ours["ours_metric"] == metric].set_index("variant").reindex(list(roles))
        own = own.reset_index()
        mean, low, high = (own[f"ours_{end}"] for end in ("mean", "low", "high"))
        bars(axes, low, high, first=len(names))
        axes.plot(100 * mean, own.index + len(names), "o", color=DARK, zorder=4)
        ends = low.clip(lower=mean - 0.1), high.clip(upper=mean + 0.1)
        keep_whole(axes, [printed["published"], mean, *ends])
        axes.set(xlabel=f"{LABELS[metric]} (%)")
        axes.locator_params(axis="x", nbins=3)
    for axes in panels:  # a line of text is a row of ours, two are
        axes.set_ylim(len(labels) - 0.4, -0.6)
    text = (
        "Diamonds: published, filled the paper's, hollow the reproductions'. Dots: ours, mean "
        "over seeds, with Student's 95 % interval; a bar that reaches the edge of its panel goes "
        "on there. An F1 whose threshold was fitted on test labels stands beside our oracle F1. "
        "What differs between the experiments is in the table."
    )
    return Drawing(figure, Caption(dataset, f"Published numbers and ours on {dataset}", text))
