"""A page to look at images, scores and verdicts, from a file: of a study, or of predictions.

The page is one file with all numbers. Pictures lie in a folder beside it, those of some images in
a file, which is a script, since a page from a file may load nothing else: `<name>-<first>.js`
calls `take` with its name and kind -> base64 of PNG or JPEG, or None, of images
from `first` on.
"""

import hashlib
import io
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aeflow.core.files import write_text

TEMPLATE = Path(__file__).with_suffix(".html")
CHUNK = 32  # images whose pictures are one file
_LEVELS = 64  # of a map
Limits = tuple[float, float]
# What `heat` shows, for `Page.about`.
COLOURS = (
    "Maps are orange where they are higher than usual, yellow where they are higher than anywhere "
    "in the maps of 95 % of the normal validation images."
)


@dataclass
class Group:
    """The images of a dataset's category.

    Attributes:
        dataset, category: how it is called in addresses and tables.
        pictures: name of the files of its pictures.
        shows: which pictures there are, of `image` and `mask`.
        chunks: the first row of each file of pictures, of cells too.
        content: per image: what `Page.id` names; of labelled images `gt_label` and `defect`; of
            others `warnings`, `errors` and `detail`, the place of a larger picture or None.
        label: how people call it.
    """

    dataset: str
    category: str
    pictures: str
    shows: list[str]
    chunks: list[int]
    content: dict[str, Any]
    label: str = field(init=False)

    def __post_init__(self) -> None:
        self.label = self.dataset + ("" if self.category == "all" else f", {self.category}")


@dataclass
class Cell:
    """What judges the images of a group.

    Attributes:
        group: number of its group.
        variant, seed: how it is called in addresses and tables.
        label: how people call it.
        pictures: name of the files of its pictures; cells may share them.
        shows: which pictures there are, of `map` and `reconstruction`.
        content: `test` and `validation`, a list of scores per part whose sum, weighed by `beta`
            and 1 - beta where there are two, is the score; `labels` of the validation images;
            `beta`; `threshold`, or None and a `reason`; where there are two parts `thresholds`,
            those fitted at beta = 0, 0.01, ..., 1.
    """

    group: int
    variant: str
    seed: int | None
    label: str
    pictures: str
    shows: list[str]
    content: dict[str, Any]


@dataclass
class Page:
    """What a page is about.

    Attributes:
        title, about: what stands on top.
        id: what names an image: `image_id` or `path`.
        noun: how people call what judges the images.
        absent: what to do where the folder of the pictures is missing.
        lacking: what is left out, and why.
    """

    title: str
    about: str
    id: str
    noun: str
    absent: str
    groups: list[Group] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


def write_page(path: Path, folder: Path, page: Page) -> None:
    """Write a page; `folder`, beside it, has the pictures."""
    told = asdict(page) | {"folder": folder.relative_to(path.parent).as_posix()}
    text = TEMPLATE.read_text(encoding="utf-8")
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = _json(told).replace("<", "\\u003c")  # no tag can end the script
    given = {"{{ script }}": f"sha256-{digest}", "{{ data }}": data}
    write_text(path, re.sub(r"{{ \w+ }}", lambda found: given[found[0]], text))


def write_pictures(
    folder: Path, name: str, first: int, pictures: Mapping[str, Sequence[bytes | None]]
) -> None:
    """Write the pictures of some images, kind -> JPEG or PNG, from the row `first` on."""
    found = {
        kind: [b64encode(file).decode() if file else None for file in files]
        for kind, files in pictures.items()
    }
    file = f"{name}-{first}"
    write_text(folder / f"{file}.js", f"take({_json(file)}, {_json(found)});\n")


def heat(anomaly_map: NDArray[Any], scale: Limits) -> bytes:
    """Return a map, (h, w), as PNG to lay over its image.

    Transparent up to `scale[0]`, orange from there on, yellow from `scale[1]` on, and of full
    strength where it is twice as high.
    """
    low, limit = scale
    share = (anomaly_map.astype(np.float64) - low) / (2 * (limit - low) or 1.0)
    levels = np.clip(np.nan_to_num(share) * _LEVELS, 0, _LEVELS - 1).astype(np.uint8)
    image, file = Image.fromarray(levels), io.BytesIO()
    image.putpalette(_PALETTE)
    image.save(file, "PNG", transparency=_OPACITY)
    return file.getvalue()


def _json(content: Any) -> str:
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def _palette() -> tuple[bytes, bytes]:
    """Return red, green and blue of each level, and its opacity."""
    share = np.linspace(0, 1, _LEVELS)
    high = share >= 0.5
    green = np.where(high, 120 + 120 * (2 * share - 1), 90)
    colours = np.stack([np.full(_LEVELS, 255.0), green, np.zeros(_LEVELS)], axis=1)
    opacity = 255 * np.where(high, 0.35 + 0.5 * share, 1.1 * share)
    return colours.astype(np.uint8).tobytes(), opacity.astype(np.uint8).tobytes()


_PALETTE, _OPACITY = _palette()
