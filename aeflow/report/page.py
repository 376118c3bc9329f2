"""One self-contained HTML page about a study: tables, figures, provenance, licences."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from aeflow.display.figure import Caption, read_caption
from aeflow.display.table import DisplayTable, main_display
from aeflow.questions.claims import Published
from aeflow.report import sections
from aeflow.report.contents import Question
from aeflow.study.cards import DatasetCard


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure as a data URI, its caption, and the first part of its file's name."""

    kind: str
    caption: Caption
    uri: str


@dataclass(frozen=True)
class DatasetSection:
    """What the page tells about one dataset.

    Attributes:
        name: Its name in the study.
        card: Title, licence, citation.
        tables: (heading, table) pairs.
        reasons: Why cells are empty, one sentence each.
        figures: In the order given.
    """

    name: str
    card: DatasetCard
    tables: list[tuple[str, DisplayTable]]
    reasons: list[str]
    figures: list[EmbeddedFigure]


@dataclass(frozen=True)
class Answer:
    """A question and the figures that belong to it."""

    question: Question
    figures: list[EmbeddedFigure]


def build_report(
    study: str,
    results: pd.DataFrame,
    main: pd.DataFrame,
    published: Published,
    metrics: Sequence[dict[str, Any]],
    trainings: Sequence[dict[str, Any]],
    figures: Sequence[Path],
    cards: Mapping[str, DatasetCard],
    questions: Sequence[Question] = (),
    failed: Sequence[tuple[str, DisplayTable]] = (),
) -> str:
    """Return the page.

    Args:
        study: Name of the study.
        results: Output of `results_table`.
        main: Output of `main_table`.
        published: Numbers of others.
        metrics: Contents of every metrics file.
        trainings: Every train JSON, from `read_training`.
        figures: PNG or SVG files drawn by this package, in the order to show them.
        cards: The card of each dataset of the study.
        questions: Their figures are shown with them, all others with their dataset.
        failed: Of an incomplete study, (heading, table) pairs of what failed.

    Raises:
        DataError: a figure is missing or carries no caption.
    """
    embedded = [_embed(path) for path in figures]
    answers = [Answer(q, [f for f in embedded if f.kind in q.figures]) for q in questions]
    elsewhere = {kind for question in questions for kind in question.figures}
    datasets = []
    for name in main["dataset"].unique():
        runs = [run for run in metrics if run["dataset"] == name]
        datasets.append(
            DatasetSection(
                name=name,
                card=cards[name],
                tables=sections.dataset_tables(results[results["dataset"] == name], runs),
                reasons=sections.reasons(runs),
                figures=[
                    figure
                    for figure in embedded
                    if figure.caption.dataset == name and figure.kind not in elsewhere
                ],
            )
        )
    environment = Environment(
        loader=PackageLoader("aeflow.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        study=study,
        summary=sections.summary(main),
        main=main_display(main),
        answers=answers,
        sources=list(published.sources.values()),
        datasets=datasets,
        cost=sections.cost(main),
        settings=sections.settings(trainings, metrics),
        software=sections.software(trainings),
        failed=failed,
    )


def _embed(path: Path) -> EmbeddedFigure:
    """Embed an SVG as it is, a PNG as WebP: photographs are a tenth of the size then."""
    caption = read_caption(path)
    content, media_type = path.read_bytes(), "image/svg+xml"
    if path.suffix != ".svg":
        with Image.open(path) as image, BytesIO() as buffer:
            image.convert("RGB").save(buffer, "WEBP", quality=85)
            content, media_type = buffer.getvalue(), "image/webp"
    text = base64.b64encode(content).decode("ascii")
    return EmbeddedFigure(path.name.split("-")[0], caption, f"data:{media_type};base64,{text}")
