"""How figures look, their titles and captions, and files that keep these.

A figure is drawn in the size in which it is printed: one column of a paper wide, or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from PIL import Image, UnidentifiedImageError

from aeflow.core.errors import DataError
from aeflow.core.files import atomic_path, loading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("style.mplstyle")
ONE_COLUMN, TWO_COLUMNS = 3.35, 7.0  # inches: 8.5 and 17.8 cm
_CHARACTER = 0.062  # inches of one in a legend, on average
ROW = 0.17  # inches of a line of text, of a legend or beside an axis
DARK, LIGHT, GRAY, ORANGE = "#0072B2", "#A6CEE3", "0.45", "#D55E00"
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_NOTHING = "nothing"


@dataclass(frozen=True)
class Caption:
    """What a figure shows.

    Attributes:
        dataset: Name of the dataset.
        title: One phrase; also the alternative text.
        text: How to read the figure, in sentences.
        empty: Whether there was nothing to draw, and `text` says why.
    """

    dataset: str
    title: str
    text: str
    empty: bool = False


@dataclass(frozen=True)
class Look:
    """How a variant is drawn: colours that the colour-blind and gray print tell apart by more.

    Attributes:
        emphasised: whether it has a colour and a place in the legend of its own.
    """

    colour: str
    line: str | tuple[int, tuple[int, ...]]
    marker: str
    emphasised: bool = True


_LOOKS = (
    Look("#000000", "-", "o"),
    Look("#D55E00", "-", "s"),
    Look("#0072B2", (0, (5, 1)), "D"),
    Look("#009E73", (0, (3, 1, 1, 1)), "^"),
    Look("#CC79A7", (0, (1, 1)), "v"),
)
EMPHASIS = (
    "At most five variants have a colour: the reference and the first others of the "
    "configuration; all further ones are gray."
)
_OTHERS = Look("0.7", "-", ".", emphasised=False)


def looks(variants: Sequence[str], reference: str) -> dict[str, Look]:
    """Return how each variant is drawn: five told apart, the reference first, all others gray."""
    order = sorted(variants, key=lambda name: name != reference)
    kinds = [*_LOOKS, *[_OTHERS] * len(order)]
    return dict(zip(order, kinds, strict=False))


@dataclass(frozen=True)
class Drawing:
    """A drawn figure and its caption."""

    figure: Figure
    caption: Caption

    def save(self, *files: Path) -> None:
        """Write files by their endings: png, svg, pdf.

        They carry the caption and no date: same figure, same bytes.
        """
        from matplotlib import style

        caption = self.caption
        texts: dict[str, Any] = {"Title": caption.title, "Description": caption.text}
        texts |= {"Coverage": _NOTHING} if caption.empty else {}
        undated = {"Date": None, "Creator": None}
        known: dict[str, dict[str, Any]] = {
            ".png": texts | {"Dataset": caption.dataset, "Software": None},
            ".svg": texts | {"Keywords": [caption.dataset]} | undated,
            ".pdf": {"Title": caption.title, "Subject": caption.text, "Keywords": caption.dataset}
            | {"CreationDate": None, "Creator": None, "Producer": None},
        }
        with style.context(STYLE):
            for file in files:
                with atomic_path(file) as part:
                    kind = file.suffix.removeprefix(".")
                    self.figure.savefig(part, format=kind, metadata=known[file.suffix])


def read_caption(path: Path) -> Caption:
    """Read the caption of a PNG or SVG written by `Drawing.save`.

    Raises:
        DataError: the file is missing, no such image, or carries no caption.
    """
    with loading(path, ElementTree.ParseError, UnidentifiedImageError, what="no complete figure"):
        if path.suffix == ".svg":
            tree = ElementTree.parse(path)
            dataset = tree.findtext(f".//{_DUBLIN_CORE}subject//*[last()]//") or ""
            title = tree.findtext(f".//{_DUBLIN_CORE}title") or ""
            text = tree.findtext(f".//{_DUBLIN_CORE}description") or ""
            covers = tree.findtext(f".//{_DUBLIN_CORE}coverage") or ""
        else:
            with Image.open(path) as image:
                info = image.info
            keys = ("Dataset", "Title", "Description", "Coverage")
            dataset, title, text, covers = (str(info.get(key, "")) for key in keys)
    if not (dataset and title):
        raise DataError(f"{path} carries no caption: give figures drawn by the plot scripts.")
    return Caption(dataset, title, text, covers == _NOTHING)


def nothing_to_draw(dataset: str, title: str, why: str) -> Drawing:
    """Return a figure that says, in a sentence, why there is nothing to draw."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(ONE_COLUMN, 0.8))
    figure.text(0.5, 0.5, why, ha="center", va="center", wrap=True)
    return Drawing(figure, Caption(dataset, title, why, empty=True))


def legend_below(figure: Figure, columns: int, **options: Any) -> None:
    """Add one legend for all panels, each name once, in so many columns as far as they fit."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    once = {label: h for pair in found for h, label in zip(*pair, strict=True)}
    widest = 0.5 + _CHARACTER * max(map(len, once), default=0)
    columns = max(1, min(columns, int(figure.get_figwidth() / widest)))
    options |= {"loc": "outside lower center", "ncols": columns}
    figure.legend(list(once.values()), list(once), **options)
