"""Example pictures of a study: anomalies that were found, those missed, and false alarms."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from aeflow.core.types import ANOMALOUS, Split
from aeflow.display.heat import outline, under_map
from aeflow.questions.source import Source
from aeflow.study.cells import Cell

KINDS = ("found", "missed", "false alarm")
_EACH = 2
_GAP = 4  # pixels between the image and what the map shows of it
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Example:
    """A test image beside itself under its anomaly map.

    Attributes:
        kind: one of `KINDS`, at the threshold fitted on validation images.
        name: the image's, without the dataset's.
        defect: what is on it, or what it is called where nothing is.
        score: and the threshold, as text.
        webp: the picture; the line around the known defect is white, around what is unusually high
            yellow.
    """

    kind: str
    name: str
    defect: str
    score: str
    webp: bytes


def choose_examples(rows: pd.DataFrame) -> pd.DataFrame:
    """Return up to two rows of every kind, those farthest from the threshold first.

    Different categories come before different defects, and these before further images of one.

    Args:
        rows: gt_label, margin (score minus threshold), category and defect of an image.
    """
    anomalous, called = rows["gt_label"] == ANOMALOUS, rows["margin"] >= 0
    kinds = np.select([anomalous & called, anomalous, called], KINDS, default="")
    rows = rows.assign(kind=kinds, far=-rows["margin"].abs())
    rows = rows[rows["kind"] != ""].sort_values("far", kind="stable")
    for by in (["defect", "category"], ["category"]):
        turn = rows.groupby(["kind", *by], sort=False).cumcount()
        rows = rows.loc[turn.sort_values(kind="stable").index]
    chosen = [rows[rows["kind"] == kind].head(_EACH) for kind in KINDS]
    return pd.concat(chosen)


def examples(source: Source) -> list[Example]:
    """Return up to two pictures of each kind, of one variant on one dataset.

    Args:
        source: reads metrics, scores and galleries of the cells: a category each, one seed.
    """
    tables, cells = [], {}
    for cell in source.cells:
        threshold = source.metrics_of(cell)["threshold"]
        scored = source.predictions(Split.TEST, [cell]).get(cell.dataset, {}).get(cell.variant)
        if scored is None or threshold is None:
            continue
        cells[cell.category], test = cell, scored[cell.category]
        rows = test.images.assign(score=test.score[:, 0], category=cell.category)
        tables.append(rows.assign(threshold=threshold, margin=rows["score"] - threshold))
    if not tables:
        return []
    dataset, _, variant, _ = source.cells[0]
    judged = source.study.map_of(dataset, variant)
    chosen = choose_examples(pd.concat(tables, ignore_index=True))
    # A category's file is opened once, and of the pictures in it only these are decoded.
    pictures = {
        image_id: picture
        for category, rows in chosen.groupby("category", sort=False)
        for image_id, picture in _pictures(
            source, cells[str(category)], judged, [*rows["image_id"]]
        )
    }
    return [
        Example(
            row["kind"],
            row["image_id"].removeprefix(f"{dataset}/"),
            row["defect"],
            f"score {row['score']:.4g}, threshold {row['threshold']:.4g}".replace("-", "−"),
            pictures[row["image_id"]],
        )
        for row in chosen.to_dict("records")
    ]


def _pictures(
    source: Source, cell: Cell, judged: str | None, images: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield the names of images and each with the line around its defect, and under its map."""
    gallery = source.gallery(cell, images, [f"{judged}_map", "difference"])
    maps = gallery.get(f"{judged}_map", gallery.get("difference"))
    scale = gallery.get(f"{judged}_scale", gallery.get("difference_scale"))
    for place, name in enumerate(images):
        image = gallery["image"][place].copy()
        if gallery["has_mask"][place]:
            image[outline(gallery["mask"][place])] = 255
        parts = [image]
        if maps is not None and scale is not None:
            heat = under_map(gallery["image"][place], maps[place], *scale)
            parts += [np.full((len(image), _GAP, 3), 255, np.uint8), heat]
        with BytesIO() as buffer:
            Image.fromarray(np.concatenate(parts, axis=1)).save(buffer, "WEBP", quality=85)
            yield name, buffer.getvalue()
