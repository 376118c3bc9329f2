"""The questions of a study, each with its tables and figures, as the report shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aeflow.display.table import DisplayTable
from aeflow.questions.ablations import ablations_display, read_ablations
from aeflow.questions.categories import categories_display, read_categories
from aeflow.questions.certainty import ensembles_display, read_ensembles
from aeflow.questions.choice import choice_display, read_choice
from aeflow.questions.claims import Published, claims_display, read_claims
from aeflow.questions.complexity import (
    corrected_display,
    correlations_display,
    read_corrected,
    read_correlations,
)
from aeflow.questions.defects import defects_display, read_defects
from aeflow.questions.variants import comparison_display, read_comparison
from aeflow.questions.weighting import read_weighting, weighting_display
from aeflow.study.entries import DatasetEntry


@dataclass(frozen=True)
class Question:
    """A section of the report.

    Attributes:
        anchor: Its name in the page's address.
        heading: The question.
        text: How to read the answer; empty if the tables say it.
        figures: First parts of the names of its figures, such as `claims` of `claims-x.svg`.
        tables: (heading, table) pairs.
    """

    anchor: str
    heading: str
    text: str
    figures: tuple[str, ...]
    tables: list[tuple[str, DisplayTable]]


def read_questions(
    tables: Path, published: Published, entries: Sequence[DatasetEntry]
) -> list[Question]:
    """Return the questions in the order of the report.

    Args:
        tables: the study's tables.
        published: Numbers of others.
        entries: the study's datasets.

    Raises:
        DataError: a table is missing or has other columns.
    """
    return [
        Question(
            "claims",
            "Does it reproduce?",
            "Read this comparison with care. The paper released no code and leaves points open "
            "that change the numbers: how the threshold is fitted, how the scores are scaled, "
            "whether the encoder is trained. Here no choice looks at test labels, except where a "
            "column says oracle. A gap to the paper is therefore a gap to what its text "
            "describes, as far as it does.",
            ("claims",),
            [
                (
                    "Published numbers and ours",
                    claims_display(read_claims(tables / "claims.csv"), published),
                )
            ],
        ),
        Question(
            "parts",
            "What does each part give, and is the difference real?",
            "All variants read the same splits, and the same features where they use the same "
            "encoder.",
            ("variants",),
            [
                (
                    "Tests against the reference",
                    comparison_display(read_comparison(tables / "comparison.csv")),
                )
            ],
        ),
        Question(
            "choice",
            "Which setting does validation choose?",
            "",
            (),
            [("Choice by validation", choice_display(read_choice(tables / "choice.csv")))],
        ),
        Question(
            "ablations",
            "What does each setting change?",
            "",
            ("ablations",),
            [("Ablations", ablations_display(read_ablations(tables / "ablations.csv")))],
        ),
        Question(
            "weighting",
            "How much should the flow's score weigh?",
            "",
            ("weighting",),
            [("Beta", weighting_display(read_weighting(tables / "weighting.csv")))],
        ),
        Question(
            "categories",
            "Does it hold for every category?",
            "",
            ("categories",),
            [("Categories", categories_display(read_categories(tables / "categories.csv")))],
        ),
        Question(
            "certainty",
            "Is it certain when it is right?",
            "",
            ("risk",),
            [("Ensembles", ensembles_display(read_ensembles(tables / "ensembles.csv"), entries))],
        ),
        Question(
            "failures",
            "Why does it fail?",
            "",
            ("complexity", "defects"),
            [
                (
                    "Corrected for complexity",
                    corrected_display(read_corrected(tables / "complexity_corrected.csv")),
                ),
                (
                    "Correlation with complexity",
                    correlations_display(read_correlations(tables / "complexity.csv")),
                ),
                ("Defects", defects_display(read_defects(tables / "defects.csv"))),
            ],
        ),
    ]
