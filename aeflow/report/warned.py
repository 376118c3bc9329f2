"""What the jobs behind a study warned of: at the end of a run, and at the top of the page.

Warnings of a job stand in its receipt. Here each is told once, with what it is about.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aeflow.core.receipts import Receipt, read_receipt
from aeflow.core.text import one_line
from aeflow.study.cells import STEPS, Given, path
from aeflow.study.study import Study

SCREENFUL = 20  # lines of a terminal that warnings may take, but for one that is longer alone
_WIDEST = 100  # columns
_NAMED = {False: 4, True: 100}  # things that a warning is about, by name: on a terminal, on a page
_CELL = "{dataset}/{category}/{variant}"
_ABOUT = {
    "fetch_data": "{archive}",
    "prepare_images": "{dataset}/{category}",
    "prepare_masks": "{dataset}/{category}",
    "fetch_weights": "{encoder}",
    "extract_features": "{dataset}/{category}, {encoder}-stage{stages}",
}
# A number of its own: no part of a name or a path.
_NUMBER = re.compile(r"(?<![\w/.])\d[\d,]*(?:\.\d+)?(?![\w/])")


class Warned(NamedTuple):
    """A warning and what it is about.

    Attributes:
        sentence: the first one's; of other cells' sentences no more than the numbers may differ.
        about: dataset/category/variant and seeds, or what else the job was about; each once.
        differs: whether the numbers do.
    """

    sentence: str
    about: list[str]
    differs: bool = False

    def where(self, *, page: bool = False) -> str:
        """Return what it is about, on one line: on a page more names than on a terminal."""
        named = self.about[: _NAMED[page]]
        rest = len(self.about) - len(named)
        return "; ".join([*named, *([f"and {rest} more"] if rest else [])])

    def text(self) -> str:
        """Return the sentence, and that its numbers are the first one's where they differ."""
        return self.sentence + (" (Numbers: the first one's.)" if self.differs else "")


def warnings_of(study: Study, jobs: Iterable[tuple[str, Given]]) -> list[Warned]:
    """Return what jobs warned of, in their order, those that left no receipt aside.

    Args:
        jobs: step and wildcards (`jobs_of` has those of a study); other rules have no receipts.

    Raises:
        DataError: a receipt is none.
    """
    sentences: dict[str, dict[str, None]] = {}
    about: dict[str, dict[str, list[str]]] = {}
    receipts = {
        path(study, STEPS[step].receipt, given): (step, given)
        for step, given in jobs
        if step in STEPS
    }
    for file, (step, given) in receipts.items():
        for sentence, name in _of_job(file, step, given):
            key = _NUMBER.sub("#", sentence)
            sentences.setdefault(key, {})[sentence] = None
            seeds = about.setdefault(key, {}).setdefault(name, [])
            if step not in _ABOUT:
                seeds.append(str(given["seed"]))
    return [
        Warned(next(iter(own)), [_named(*thing) for thing in about[key].items()], len(own) > 1)
        for key, own in sentences.items()
    ]


def _of_job(file: Path, step: str, given: Given) -> Iterator[tuple[str, str]]:
    """Yield each warning of a job, and what it is about without the seed."""
    if not file.exists():
        return
    receipt: Receipt = read_receipt(file)
    # A job that judges has several variants: each has its own warnings.
    left = dict.fromkeys(receipt.warnings)
    for variant, judged in receipt.facts.get("variants", {}).items():
        for sentence in judged["warnings"]:
            left.pop(sentence, None)
            yield sentence, _CELL.format(**{**given, "variant": variant})
    for sentence in left:
        yield sentence, _ABOUT.get(step, _CELL).format(**given)


def _named(name: str, seeds: Sequence[str]) -> str:
    if not seeds:
        return name
    own = list(dict.fromkeys(seeds))
    return f"{name}, seed{'s' * (len(own) > 1)} {', '.join(own)}"


def on_terminal(warnings: Sequence[Warned], rest: str, columns: int) -> str:
    """Return the lines that tell warnings at the end of a run, at most about a screenful.

    Args:
        rest: where they all stand, as a phrase.
        columns: of the terminal.
    """
    width = min(columns, _WIDEST)
    lines = [f"{len(warnings)} warning{'s' * (len(warnings) > 1)} about these results:"]
    for number, warned in enumerate(warnings):
        # A file's name may hold what a terminal takes for a command.
        texts = [one_line(text) for text in (warned.text(), warned.where())]
        shown = [
            *textwrap.wrap(texts[0], width, initial_indent="* ", subsequent_indent="  "),
            *textwrap.wrap(texts[1], width, initial_indent="    ", subsequent_indent="    "),
        ]
        if number and len(lines) + len(shown) > SCREENFUL:
            lines.append(f"* and {len(warnings) - number} more.")
            break
        lines += shown
    return "\n".join([*lines, f"All of them, and all that they are about: {rest}"])
