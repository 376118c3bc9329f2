"""A figure that knows its dataset, title and caption, and files that keep them."""

from __future__ import annotations

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
class Drawing:
    """A drawn figure and its caption."""

    figure: Figure
    caption: Caption

    def save(self, png: Path, svg: Path) -> None:
        """Write both files. They carry the caption and no date: same figure, same bytes."""
        from matplotlib import style

        caption = self.caption
        texts: dict[str, Any] = {"Title": caption.title, "Description": caption.text}
        texts |= {"Coverage": _NOTHING} if caption.empty else {}
        with style.context(STYLE):
            with atomic_path(png) as part:
                metadata = texts | {"Dataset": caption.dataset, "Software": None}
                self.figure.savefig(part, format="png", metadata=metadata)
            with atomic_path(svg) as part:
                metadata = texts | {"Keywords": [caption.dataset], "Date": None, "Creator": None}
                self.figure.savefig(part, format="svg", metadata=metadata)


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

    figure = Figure(figsize=(6, 0.8))
    figure.text(0.5, 0.5, why, ha="center", va="center", wrap=True)
    return Drawing(figure, Caption(dataset, title, why, empty=True))


def legend_below(figure: Figure, columns: int) -> None:
    """Add one legend for all panels, each name once."""
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    once = {label: h for pair in found for h, label in zip(*pair, strict=True)}
    figure.legend(list(once.values()), list(once), loc="outside lower center", ncols=columns)
