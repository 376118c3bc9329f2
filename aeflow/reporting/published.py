"""The paper's and the reproductions' numbers, and ours beside them."""

from pathlib import Path
from typing import Annotated, Self

import pandas as pd
from pydantic import Field, model_validator

from aeflow.reporting.display import DisplayTable, percent, plain
from aeflow.validation import NAME, Strict, load_yaml, validate

Percent = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?$")]
COMPARED = {
    "image_auroc": "AUC",
    "f1": "F1",
    "accuracy": "ACC",
    "sensitivity": "SEN",
    "specificity": "SPE",
}
_COLUMNS = [
    "dataset",
    "who",
    "detail",
    *COMPARED.values(),
    "F1 (oracle)",
    "AUC gap",
    "threshold from",
    "remark",
]


class Source(Strict):
    """Who published numbers, and why they are not the same experiment."""

    title: str
    citation: str
    url: str
    threshold: str = Field(description="Images the threshold was fitted on.")
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


def published_table(main: pd.DataFrame, published: Published) -> pd.DataFrame:
    """Return the published rows of each of the study's datasets, then ours, as strings.

    Args:
        main: Output of `main_table`.
        published: Numbers of others. A dataset that is not in both is left out.
    """
    rows: list[dict[str, str]] = []
    for dataset in main["dataset"].unique():
        theirs = [row for row in published.numbers if row.dataset == dataset]
        rows += [_their_row(row, published.sources[row.who]) for row in theirs]
        paper = next((row.image_auroc for row in theirs if row.who == "paper"), None)
        ours = main[main["dataset"] == dataset] if theirs else main[:0]
        rows += [_our_row(row, paper) for _, row in ours.iterrows()]
    return pd.DataFrame(rows, columns=_COLUMNS, dtype=str)


def published_display(main: pd.DataFrame, published: Published) -> DisplayTable:
    """Return `published_table` for people, with a note on what differs."""
    table = published_table(main, published)
    cells = table.rename(columns=lambda name: name[0].upper() + name[1:])
    if table.empty:
        return plain(cells, "No numbers are published for the datasets of this study.")
    notes = [
        "Percent; ours mean ± sd over seeds. F1, ACC, SEN and SPE compare only with rows whose "
        "threshold was fitted alike. AUC gap: ours minus the paper's, in points. Published "
        "numbers are quoted as printed, empty where unknown.",
        *(
            f"{who}: {source.differs}"
            for who, source in published.sources.items()
            if who in set(table["who"])
        ),
    ]
    return plain(cells, "\n".join(notes))


def _their_row(row: PublishedNumbers, source: Source) -> dict[str, str]:
    return {
        "dataset": row.dataset,
        "who": row.who,
        "detail": row.detail,
        **{label: getattr(row, metric) or "" for metric, label in COMPARED.items()},
        "F1 (oracle)": "",
        "AUC gap": "",
        "threshold from": source.threshold,
        "remark": row.remark,
    }


def _our_row(row: pd.Series, paper_auroc: str | None) -> dict[str, str]:
    gap = "" if paper_auroc is None else _gap(row["image_auroc_mean"], float(paper_auroc))
    encoder = f"encoder {row['encoder']}, " if pd.notna(row["encoder"]) else ""
    rule = row["threshold_rule"] if pd.notna(row["threshold_rule"]) else ""
    seeds = f"{row['n_seeds']} seed{'s' if row['n_seeds'] > 1 else ''}"
    shares = {
        metric: percent(row[f"{metric}_mean"], row[f"{metric}_sd"])
        for metric in [*COMPARED, "oracle_f1"]
    }
    return {
        "dataset": row["dataset"],
        "who": "ours",
        "detail": row["variant"],
        **{label: shares[metric] for metric, label in COMPARED.items()},
        "F1 (oracle)": shares["oracle_f1"],
        "AUC gap": gap,
        "threshold from": f"validation ({rule})" if rule else "",
        "remark": encoder + seeds,
    }


def _gap(auroc: float, paper_percent: float) -> str:
    """Return our AUROC (a share) minus the paper's (percent), in points, with a sign."""
    if pd.isna(auroc):
        return ""
    return f"{100 * auroc - paper_percent:+.1f}".replace("-", "−")
