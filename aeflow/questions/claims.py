"""The paper's and the reproductions' numbers, and ours beside them: does it reproduce?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from aeflow.core.schema import NAME, Strict, load_yaml, validate
from aeflow.core.types import Method
from aeflow.display.table import LABELS, DisplayTable, interval, number, percent, plain, points
from aeflow.questions.results import read_table
from aeflow.study.cards import load_dataset_card
from aeflow.study.entries import DatasetEntry

Percent = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?$")]
COMPARED = {
    "image_auroc": "AUC",
    "f1": "F1",
    "accuracy": "ACC",
    "sensitivity": "SEN",
    "specificity": "SPE",
}
ORACLE = "test (oracle)"
PAPER_ENCODER = "wide_resnet50_2-stage3"
CLAIM_COLUMNS = [
    *["dataset", "who", "detail", "metric", "printed", "published"],
    *["variant", "role", "encoder", "ours_metric"],
    *["ours_mean", "ours_sd", "ours_low", "ours_high", "n_seeds"],
    *["difference", "verdict", "why"],
]
_TEXT = [
    *["dataset", "who", "detail", "metric", "printed", "variant", "role", "encoder"],
    *["ours_metric", "verdict", "why"],
]
FAITHFUL, CHOSEN = "faithful", "chosen by validation"
_OURS = ["variant", "role", "encoder", "ours_mean", "ours_sd", "ours_low", "ours_high", "n_seeds"]


class Source(Strict):
    """Who published numbers, and why they are not the same experiment."""

    title: str
    citation: str
    url: str
    threshold: Literal["not stated", "validation", "test (oracle)"] = Field(
        description="Images the threshold was fitted on."
    )
    differs: str = Field(description="What differs from this pipeline, in sentences.")


class PublishedNumbers(Strict):
    """Numbers of one source on one dataset, in percent, as printed there."""

    dataset: str = Field(pattern=NAME)
    who: str
    detail: str = ""
    image_auroc: Percent | None = None
    f1: Percent | None = None
    accuracy: Percent | None = None
    sensitivity: Percent | None = None
    specificity: Percent | None = None
    remark: str = ""


class Published(Strict):
    """`config/published.yaml`."""

    sources: dict[str, Source]
    numbers: list[PublishedNumbers]

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = sorted({row.who for row in self.numbers} - self.sources.keys())
        if unknown:
            raise ValueError(f"numbers name {', '.join(unknown)}, which is not in sources")
        return self


def load_published(path: Path) -> Published:
    """Read and validate the published numbers.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    return validate(Published, load_yaml(path), str(path))


def claims_table(
    main: pd.DataFrame,
    published: Published,
    entries: Sequence[DatasetEntry] = (),
    chosen: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return every published number beside ours, with a verdict.

    Published numbers belong to a card, ours to an entry of the study: they stand beside every
    entry with that card. An entry with another split than its card's, or with some of its
    categories, is another experiment on the same images, so it is `not comparable`.

    The rule: `within` if our 95 % interval over seeds (Student's, `main.csv`) reaches the
    published value, give or take half a unit of its last printed digit ("96" is 95.5 to 96.5);
    else `above` or `below`: ours lies above or below it. Few seeds make a wide interval, so
    `within` means "not shown to differ", not "equal". `not run`: the study has no such dataset or
    variant. `not comparable`: `why` says why; there is no verdict without an interval, and none
    where they fitted the threshold on test labels, but for F1, which stands beside our oracle F1.

    Args:
        main: Output of `main_table`.
        published: Numbers of others.
        entries: the study's datasets; one that is not among them has the card of its name.
        chosen: dataset -> the variant that validation chose. It stands below the faithful one,
            the dataset's first variant of the method aeflow.

    Returns:
        `CLAIM_COLUMNS`: shares in [0, 1] but for `printed`, the percent as printed; NaN where
        there is no value. `difference` is ours minus theirs.

    Raises:
        ConfigError: an entry's card is missing or wrong.
    """
    rows = []
    known = {entry.name: entry for entry in entries}
    cards = {name: known[name].card_name if name in known else name for name in main["dataset"]}
    for theirs in published.numbers:
        source = published.sources[theirs.who]
        datasets = [name for name, card in cards.items() if card == theirs.dataset]
        for dataset in datasets or [theirs.dataset]:
            ours = _ours(main, dataset, (chosen or {}).get(dataset))
            other = _other_experiment(known[dataset]) if dataset in known else None
            for metric in COMPARED:
                printed = getattr(theirs, metric)
                if printed is not None:
                    claim = {"metric": metric, "printed": printed}
                    rows += [
                        {"dataset": dataset, **_judged(theirs, claim, source, o, other)}
                        for o in ours
                    ]
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


def read_claims(path: Path) -> pd.DataFrame:
    """Read `claims.csv`.

    Raises:
        DataError: the file is missing or has other columns.
    """
    return read_table(path, CLAIM_COLUMNS, text=_TEXT, rule="make_tables")


def claims_display(table: pd.DataFrame, published: Published) -> DisplayTable:
    """Return `claims_table` for people, with the rule and a note on what differs."""
    values = zip(table["ours_mean"], table["ours_sd"], strict=True)
    ends = zip(table["ours_low"], table["ours_high"], strict=True)
    cells = pd.DataFrame(
        {
            "Dataset": table["dataset"],
            "Who": table["who"],
            "Detail": table["detail"],
            "Metric": [LABELS[metric] for metric in table["metric"]],
            "Published": table["printed"],
            "Variant": table["variant"].astype(object).fillna(""),
            "Role": table["role"].astype(object).fillna(""),
            "Ours": [percent(mean, sd) for mean, sd in values],
            "95 % interval": [interval(low, high) for low, high in ends],
            "Seeds": [number(count) for count in table["n_seeds"]],
            "Difference": [points(difference) for difference in table["difference"]],
            "Verdict": table["verdict"],
            "Why": table["why"],
        }
    )
    if (table["verdict"] == "not run").all():
        return plain(cells[:0], "No numbers are published for the datasets of this study.")
    notes = [
        "Percent; ours mean ± sd over seeds, Student's interval of the mean. Within: the interval "
        "reaches the published value, give or take half a unit of its last printed digit, so a "
        "difference is not shown; above, below: ours is. Published numbers are quoted as printed.",
        *(f"{who}: {source.differs}" for who, source in published.sources.items()),
    ]
    return plain(cells, "\n".join(notes))


def _ours(main: pd.DataFrame, dataset: str, chosen: str | None) -> list[dict[str, Any]]:
    """Return our rows to stand beside a dataset's numbers; one empty row if there are none."""
    rows = main[main["dataset"] == dataset]
    roles = dict.fromkeys(rows.loc[rows["method"] == Method.AEFLOW, "variant"][:1], FAITHFUL)
    if chosen is not None:
        roles[chosen] = f"{FAITHFUL}, {CHOSEN}" if chosen in roles else CHOSEN
    found: dict[str, Any] = {str(row["variant"]): row for row in rows.to_dict("records")}
    ours = [{**found[name], "role": role} for name, role in roles.items() if name in found]
    return ours or [{}]


def _other_experiment(entry: DatasetEntry) -> str | None:
    """Return why an entry is not the experiment of its card's published numbers."""
    if entry.categories is not None:
        return f"ours has the categories {', '.join(entry.categories)} alone"
    if entry.split is not None and entry.split != load_dataset_card(entry.card_name).split:
        return f"our split is {entry.split}, not the published one"
    return None


def _judged(
    theirs: PublishedNumbers,
    claim: dict[str, str],
    source: Source,
    ours: dict[str, Any],
    other: str | None,
) -> dict[str, Any]:
    """Return a row of the claims table; `other` says why ours is another experiment."""
    metric, printed = claim["metric"], claim["printed"]
    value = float(printed) / 100
    row: dict[str, Any] = {"who": theirs.who, "detail": theirs.detail, **claim}
    row |= {"published": value, "difference": np.nan, **dict.fromkeys(_OURS, np.nan)}
    remarks = [theirs.remark] if theirs.remark else []
    if not ours:
        why = ["this study has no such dataset or variant", *remarks]
        return row | {"ours_metric": metric, "verdict": "not run", "why": "; ".join(why)}
    oracle = source.threshold == ORACLE and metric != "image_auroc"
    name = "oracle_f1" if oracle and metric == "f1" else metric
    ends = {f"ours_{end}": ours[f"{name}_{end}"] for end in ("mean", "sd", "low", "high")}
    row |= {**ends, **{key: ours[key] for key in ("variant", "role", "encoder", "n_seeds")}}
    if name == "oracle_f1":
        remarks.append("both F1 at a threshold fitted on test labels")
    elif oracle:
        remarks.append("their threshold was fitted on test labels, ours on validation images")
    elif metric != "image_auroc" and source.threshold == "not stated":
        remarks.append("their threshold is not stated")
    if ours["encoder"] != PAPER_ENCODER:
        remarks.append(f"our encoder is {ours['encoder']}, the paper's {PAPER_ENCODER}")
    if other:
        remarks.insert(0, other)
    comparable = not other and (not oracle or name == "oracle_f1")
    if comparable:
        row["difference"] = ends["ours_mean"] - value
    if comparable and np.isnan(ends["ours_mean"]):
        remarks.insert(0, "this study has no such value")
    elif comparable and np.isnan(ends["ours_low"]):
        remarks.insert(0, "one seed has no interval")
    half = 10.0 ** -len(printed.partition(".")[2]) / 200
    verdict = _verdict(value, half, ends) if comparable else "not comparable"
    return row | {"ours_metric": name, "verdict": verdict, "why": "; ".join(remarks)}


def _verdict(value: float, half: float, ours: dict[str, float]) -> str:
    low, high = ours["ours_low"], ours["ours_high"]
    if np.isnan(low):
        return "not comparable"
    slack = half + 1e-9  # an interval that ends at the rounding's end reaches it
    if low > value + slack:
        return "above"
    return "below" if high < value - slack else "within"
