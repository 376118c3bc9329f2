"""Example pictures of a study: anomalies that were found, those missed, and false alarms."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from aeflow.core.types import ANOMALOUS, Split
from aeflow.questions.panels import overlaid, scale_of
from aeflow.questions.source import Source

KINDS = ("found", "missed", "false alarm")
_EACH = 2
_CLEAR = 50.0  # percent of the pixels whose colour stays
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
        webp: the picture; the line around the known defect is white.
    """

    kind: str
    name: str
    defect: str
    score: str
    webp: bytes


def choose_examples(rows: pd.DataFrame, each: int = _EACH) -> pd.DataFrame:
    """Return `each` rows of every kind, those farthest from the threshold first.

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
    chosen = [rows[rows["kind"] == kind].head(each) for kind in KINDS]
    return pd.concat(chosen)


def examples(source: Source) -> list[Example]:
    """Return up to two pictures of each kind, of one variant on one dataset.

    Args:
        source: reads metrics, scores and galleries of the cells: a category each, one seed.
    """
    tables, galleries = [], {}
    for cell in source.cells:
        threshold = source.metrics_of(cell)["threshold"]
        scored = source.predictions(Split.TEST, [cell]).get(cell.dataset, {}).get(cell.variant)
        if scored is None or threshold is None:
            continue
        gallery = galleries[cell.category] = source.gallery(cell)
        test = scored[cell.category]
        rows = test.images.assign(score=test.score[:, 0], category=cell.category)
        rows = rows[rows["image_id"].isin(gallery["image_id"])]
        tables.append(rows.assign(threshold=threshold, margin=rows["score"] - threshold))
    if not tables:
        return []
    dataset, _, variant, _ = source.cells[0]
    judged = source.study.map_of(dataset, variant)
    return [
        Example(
            row["kind"],
            row["image_id"].removeprefix(f"{dataset}/"),
            row["defect"],
            f"score {row['score']:.4g}, threshold {row['threshold']:.4g}".replace("-", "−"),
            _picture(galleries[row["category"]], judged, row["image_id"]),
        )
        for row in choose_examples(pd.concat(tables, ignore_index=True)).to_dict("records")
    ]


def _picture(gallery: dict[str, Array], judged: str | None, image_id: str) -> bytes:
    """Return an image, the line around its defect, and the same under its map, as WebP."""
    place = gallery["image_id"].tolist().index(image_id)
    maps = gallery.get(f"{judged}_map", gallery.get("difference"))
    image = gallery["image"][place].copy()
    if gallery["has_mask"][place]:
        image[_outline(gallery["mask"][place])] = 255
    parts = [image]
    if maps is not None:
        heat = overlaid(gallery["image"][place], maps[place], scale_of(maps, _CLEAR))
        parts += [np.full((len(image), _GAP, 3), 255, np.uint8), (255 * heat).astype(np.uint8)]
    with BytesIO() as buffer:
        Image.fromarray(np.concatenate(parts, axis=1)).save(buffer, "WEBP", quality=85)
        return buffer.getvalue()


def _outline(mask: Array) -> Array:
    """Return the pixels just outside a mask (H, W)."""
    padded = np.pad(mask.astype(bool), 1)
    around = [np.roll(padded, shift, axis) for axis in (0, 1) for shift in (-1, 1)]
    outline: Array = (np.logical_or.reduce(around) & ~padded)[1:-1, 1:-1]
    return outline
