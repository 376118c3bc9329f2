"""What a study shows: each question, its tables and figures, and what each is made from.

The one list: names and inputs of the rules and the page are made from it. A new table or figure
is a function in its question's module, `<table>_table(source)` with `<table>_display(table,
source)`, or `plot_<figure>(source, *of)`, and a line here. Modules are imported by their names
when a job runs, so a workflow reads this at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aeflow.core.files import read_json
from aeflow.core.schema import load_yaml
from aeflow.study.cards import DATASET_CARDS, PUBLISHED
from aeflow.study.cells import (
    STEPS,
    Cell,
    jobs_of,
    path,
    statistics_of,
    study_cells,
    table_of,
)
from aeflow.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from aeflow.display.figure import Drawing
    from aeflow.display.table import DisplayTable
    from aeflow.questions.source import Source

TEMPLATES = (Path("aeflow/report/report.html"), Path("aeflow/report/report.js"))
BROWSER = Path("aeflow/display/browse.html")
Missing = Mapping[Cell, str]
Make = Callable[[str], "pd.DataFrame"]


def _all(study: Study, of: str) -> list[Cell]:
    return study_cells(study)


def named_cells(study: Study, of: str = "") -> list[Cell]:
    """Return the cells of the named variants, of a dataset or of all."""
    names = set(study.named)
    return [c for c in study_cells(study) if c.variant in names and of in ("", c.dataset)]


def _trained(study: Study, of: str) -> list[Cell]:
    return [c for c in named_cells(study, of) if study.variant(c.variant).method.ours]


def _candidates(study: Study, of: str) -> list[Cell]:
    """Return the candidates of the choice by validation: our methods, fusions of several.

    Ablations too, but not of a score's definition: of hundreds of scores of one training, the
    best is best by chance. Nor ensembles over seeds, which are no other setting.
    """
    scores = {
        r["variant"]
        for r in study.ablation_rows()
        if any(key.startswith("score.") for key in (r["key"], *r["across"]))
    }
    names = {v.name for v in study.all_variants if v.method.ours or len(v.members) > 1}
    return [cell for cell in study_cells(study) if cell.variant in names - scores]


def _pictured(study: Study, of: str = "") -> list[Cell]:
    """Return the named cells whose images may be seen, of a dataset or of all."""
    return [cell for cell in named_cells(study, of) if study.dataset(cell.dataset).pictures]


def example_cells(study: Study) -> list[Cell]:
    """Return the cells whose images the page shows: named, first seed, with anomaly maps."""
    return [
        cell
        for cell in _pictured(study)
        if study.variant(cell.variant).pictures
        and cell.seed == study.seeds_of(cell.variant)[0]
        and study.map_of(cell.dataset, cell.variant)
    ]


def _column(study: Study, of: str) -> list[Cell]:
    dataset, category, variant = of.split("+")
    return [Cell(dataset, category, variant, seed) for seed in study.seeds_of(variant)]


def _first_seed(study: Study, of: str) -> list[Cell]:
    return _column(study, of)[:1]


def _datasets(study: Study) -> list[str]:
    """Return the datasets on which a named variant runs."""
    return list(dict.fromkeys(cell.dataset for cell in named_cells(study)))


def _with_categories(study: Study) -> list[str]:
    return [name for name in _datasets(study) if len(study.categories(name)) > 1]


def _with_claims(study: Study) -> list[str]:
    """Return the datasets whose card has published numbers."""
    cards = {number.get("dataset") for number in load_yaml(PUBLISHED).get("numbers") or []}
    return [entry.name for entry in study.datasets if entry.card_name in cards]


def _ablated(study: Study) -> list[str]:
    rows = study.ablation_rows()
    return list(dict.fromkeys(row["dataset"] for row in rows if row["key"] != "score.beta"))


def _weighted(study: Study) -> list[str]:
    rows = study.ablation_rows()
    return list(dict.fromkeys(row["dataset"] for row in rows if row["key"] == "score.beta"))


def _columns(study: Study) -> list[str]:
    """Return dataset, category and variant of our trained named variants, a training once."""
    trained = [cell for cell in _trained(study, "") if table_of(study, cell) == cell]
    return list(dict.fromkeys("+".join(cell[:3]) for cell in trained))


def _pictured_columns(study: Study) -> list[str]:
    named = [(of, *of.split("+")) for of in _columns(study)]
    return [of for of, d, _, v in named if study.dataset(d).pictures and study.variant(v).pictures]


@dataclass(frozen=True)
class Entry:
    """A table, or a figure for each of some things.

    Attributes:
        name: of its functions and files.
        module: of aeflow.questions, where its functions are.
        reads: what it is made from: metrics, scores, train, galleries, published, or tables.
        cells: those it is about.
        heading: of a table on the page; without one it is not there.
        each: what a figure is drawn for: datasets, or dataset, category and variant joined by +.
        photographs: whether pixels suit a figure better than lines.
    """

    name: str
    module: str
    reads: tuple[str, ...]
    cells: Callable[[Study, str], list[Cell]] = named_cells
    heading: str = ""
    each: Callable[[Study], list[str]] | None = None
    photographs: bool = False


@dataclass(frozen=True)
class Question:
    """A section of the page: its name in the address, the question, how to read the answer.

    It is left out where no table of it has a row, and no figure shows anything.
    """

    anchor: str
    heading: str
    text: str
    entries: tuple[Entry, ...]


# What stands with the answer, and what all else is made from.
FIRST = (
    Entry("results", "results", ("metrics",), _all),
    Entry("main", "results", ("results",), heading="Main table"),
    Entry("roc", "curves", ("metrics", "scores"), each=_datasets),
)
QUESTIONS = (
    Question(
        "claims",
        "Does it reproduce?",
        "Read this comparison with care. The paper released no code and leaves points open "
        "that change the numbers: how the threshold is fitted, how the scores are scaled, "
        "whether the encoder is trained. Here no choice looks at test labels, except where a "
        "column says oracle. A gap to the paper is therefore a gap to what its text "
        "describes, as far as it does.",
        (
            Entry(
                *("claims", "claims", ("main", "choice", "published")),
                heading="Published numbers and ours",
            ),
            Entry("claims", "claims", ("claims",), each=_with_claims),
        ),
    ),
    Question(
        "parts",
        "What does each part give, and is the difference real?",
        "All variants read the same splits, and the same features where they use the same "
        "encoder.",
        (
            Entry("comparison", "variants", ("scores",), heading="Tests against the reference"),
            Entry("variants", "variants", ("results", "main", "comparison"), each=_datasets),
        ),
    ),
    Question(
        "operating",
        "How much does it find, and at how many false alarms?",
        "A threshold is fitted to validation images by the rule that the study names. Where the "
        "test shows less than was asked, its images are unlike those of validation, or there were "
        "too few.",
        (Entry("operating", "operating", ("metrics",), heading="Operating points"),),
    ),
    Question(
        "choice",
        "Which setting does validation choose?",
        "",
        (Entry("choice", "choice", ("scores", "main"), _candidates, "Choice by validation"),),
    ),
    Question(
        "ablations",
        "What does each setting change?",
        "",
        (
            Entry("ablations", "ablations", ("results",), heading="Ablations"),
            Entry("ablations", "ablations", ("results",), each=_ablated),
        ),
    ),
    Question(
        "weighting",
        "How much should the flow's score weigh?",
        "",
        (
            Entry("weighting", "ablations", ("results",), heading="Beta"),
            Entry("weighting", "ablations", ("results",), each=_weighted),
        ),
    ),
    Question(
        "categories",
        "Does it hold for every category?",
        "",
        (
            Entry("categories", "results", ("results",), heading="Categories"),
            Entry("categories", "results", ("categories",), each=_with_categories),
        ),
    ),
    Question(
        "certainty",
        "Is it certain when it is right?",
        "",
        (Entry("certainty", "certainty", ("metrics",), heading="Fusions"),),
    ),
    Question(
        "failures",
        "Why does it fail?",
        "",
        (
            Entry("defects", "results", ("metrics",), heading="Defects"),
            Entry("defects", "results", ("defects",), each=_datasets),
        ),
    ),
)
# Figures that stand with each dataset, not with a question.
PER_DATASET = (
    Entry(
        *("panels", "panels", ("metrics", "scores", "galleries"), _first_seed),
        each=_pictured_columns,
        photographs=True,
    ),
    Entry("scores", "curves", ("metrics", "scores"), _first_seed, each=_columns),
    Entry("training", "curves", ("train",), _column, each=_columns),
)
BROWSE = Entry("browse", "", ("metrics", "scores", "galleries"), _pictured)
_ENTRIES = [*FIRST, *(e for question in QUESTIONS for e in question.entries), *PER_DATASET]
TABLES = {entry.name: entry for entry in _ENTRIES if entry.each is None}
FIGURES = {entry.name: entry for entry in _ENTRIES if entry.each is not None}


def figures(study: Study) -> list[tuple[str, str]]:
    """Return (figure, of) for each of a study's figures."""
    return [(e.name, of) for e in FIGURES.values() if e.each for of in e.each(study)]


def inputs(study: Study, name: str, of: str = "") -> list[Path]:
    """Return what a table, or with `of` a figure, is made from, each file once.

    A gallery stands there by its receipt, which names its checksum: a clone without it has
    nothing to do.
    """
    entry = FIGURES[name] if of else TABLES[name]
    style = [Path("aeflow/display/style.mplstyle")] if of else []
    return list(dict.fromkeys([*_read(study, entry, of), *style]))


def browse_inputs(study: Study) -> list[Path]:
    """Return what the page of all test images is made from, galleries by their receipts."""
    return list(dict.fromkeys([*_read(study, BROWSE), BROWSER]))


def _read(study: Study, entry: Entry, of: str = "") -> list[Path]:
    cells = entry.cells(study, of)
    return [file for read in entry.reads for file in _files(study, read, cells)]


def page_inputs(study: Study) -> list[Path]:
    """Return what the page is made from: tables, figures, metrics, trainings, cards, scores.

    And the receipts of all jobs, for what they warned of, and for the galleries of examples.
    """
    found = [file for name in TABLES for file in _files(study, name, [])]
    found += [figure_file(study, name, of) for name, of in figures(study)]
    found += _files(study, "metrics", named_cells(study)) + _files(study, "published", [])
    found += _files(study, "train", _trained(study, ""))
    found += _files(study, "scores", example_cells(study))
    found += [path(study, STEPS[step].receipt, given) for step, given in jobs_of(study)]
    found.append(path(study, "browse", {}))  # to which it leads
    return list(dict.fromkeys([*found, *TEMPLATES]))


def figure_file(study: Study, name: str, of: str) -> Path:
    """Return the file of a figure that the page shows: lines as vectors, photographs as pixels."""
    ending = "png" if FIGURES[name].photographs else "svg"
    return path(study, ending, {"figure": name, "of": of})


def _files(study: Study, read: str, cells: list[Cell]) -> list[Path]:
    kinds = {"galleries": ["scored"], "train": ["trained", "history"]}.get(read, [read])
    own = dict.fromkeys(table_of(study, cell) for cell in cells)
    if read in TABLES:
        return [path(study, "csv", {"table": read})]
    if read == "published":
        cards = dict.fromkeys(entry.card_name for entry in study.datasets)
        return [PUBLISHED, *(DATASET_CARDS / f"{card}.yaml" for card in cards)]
    if read == "scores":
        scores = {c: study.cell(c.dataset, c.variant).score for c in cells}
        corrected = [cell for cell, score in scores.items() if score.correct != "none"]
        own |= dict.fromkeys(statistics_of(study, cell) for cell in corrected)
    return [path(study, kind, cell) for cell in own for kind in kinds]


def galleries(study: Study, name: str, of: str = "") -> list[Path]:
    """Return the galleries that a figure, the `page` or `browse` shows, by receipts its inputs."""
    cells = example_cells(study)
    if name != "page":
        entry = FIGURES.get(name, BROWSE)
        cells = entry.cells(study, of) if "galleries" in entry.reads else []
    own = [cell for cell in cells if study.variant(cell.variant).has_gallery]
    return list(dict.fromkeys(path(study, "gallery", table_of(study, cell)) for cell in own))


def missing_cells(study: Study, failures: Path) -> Missing:
    """Return the cells without a result and why, of a list of failures."""
    known, reasons = read_json(failures), {}
    for absent in known["missing"]:
        behind = dict.fromkeys(known["jobs"][number]["reason"] for number in absent["failed"])
        reasons[Cell(*absent["table"])] = " ".join(behind) or "Not run."
    cells = {cell: table_of(study, cell) for cell in study_cells(study)}
    return {cell: reasons[table] for cell, table in cells.items() if table in reasons}


def code_of(name: str) -> list[Path]:
    """Return the files of a table or a figure which no script imports; those of the `page`."""
    if name == "page":
        modules = dict.fromkeys(file for table in TABLES for file in code_of(table))
        return [Path("aeflow/report/contents.py"), *modules]
    entry = TABLES.get(name) or FIGURES[name]
    return [Path("aeflow/questions", f"{entry.module}.py")]


def maker(study: Study, missing: Missing | None = None) -> Make:
    """Return a function that makes a table by its name, each once.

    Args:
        missing: of an incomplete study, the cells without a result and why. A table then makes
            those that it reads: their files may be an earlier run's.
    """

    @cache
    def make(name: str) -> pd.DataFrame:
        from aeflow.display.table import typed

        others = None if missing is None else make
        source = source_of(study, TABLES[name], missing=missing, make=others)
        return typed(_function(TABLES[name], f"{name}_table")(source))

    return make


def show(
    study: Study, name: str, table: pd.DataFrame, missing: Missing | None = None
) -> DisplayTable:
    """Return a table for people, who see labels in the place of variants' names.

    Of an incomplete study, it says what is missing.
    """
    source = source_of(study, TABLES[name], missing=missing)
    shown: DisplayTable = _function(TABLES[name], f"{name}_display")(table, source)
    shown = shown.labelled(study.labels)
    own = dict.fromkeys((cell.dataset, cell.variant) for cell in source.cells)
    absent = [names for names in own if names in source.lacking()]
    lacking = [f"{dataset}/{study.label(variant)}" for dataset, variant in absent]
    if lacking:
        more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
        shown = shown.noting(f"Not all results are there of {', '.join(lacking[:8])}{more}.")
    return shown


def draw(study: Study, name: str, of: str) -> Drawing:
    """Return a figure."""
    from matplotlib import style

    from aeflow.display.figure import STYLE

    source = source_of(study, FIGURES[name], of)
    with style.context(STYLE):
        drawing: Drawing = _function(FIGURES[name], f"plot_{name}")(source, *of.split("+"))
    return drawing


def source_of(
    study: Study,
    entry: Entry,
    of: str = "",
    missing: Missing | None = None,
    make: Make | None = None,
) -> Source:
    """Return what an entry may read."""
    from aeflow.questions.source import Source

    return Source(study, entry.reads, entry.cells(study, of), missing, make)


def _function(entry: Entry, name: str) -> Any:
    return getattr(import_module(f"aeflow.questions.{entry.module}"), name)
