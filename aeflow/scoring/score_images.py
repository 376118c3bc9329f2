"""Scoring: every score component of every validation and test image, in one pass."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from aeflow.core.types import SCORE_TABLE_COLUMNS, AnomalyMap, Split
from aeflow.data.prepared import Prepared
from aeflow.methods.method import Rows, Scorer, batches
from aeflow.scoring.gallery import MAP_SIDE, choose_images, in_bytes, shrink, write_gallery
from aeflow.scoring.pixel_metrics import PixelMetrics

logger = logging.getLogger(__name__)
BATCH = 16
_NOTHING: dict[str, Any] = {
    "image": np.zeros((0, 1, 1, 3), np.uint8),
    "mask": np.zeros((0, 1, 1), bool),
    "has_mask": np.zeros(0, bool),
}


def score_images(
    prepared: Prepared, scorer: Scorer, fpr_limit: float
) -> tuple[pd.DataFrame, dict[str, dict[str, float | None]]]:
    """Score all validation and test images.

    Returns:
        The score table, and per map the pixel metrics of the test images that have masks
        (empty where the dataset has none, or the method no map).
    """
    rows = prepared.rows(Split.VALIDATION, Split.TEST)
    judged = set(prepared.rows(Split.TEST)) if len(prepared.masks) else set()
    parts: list[pd.DataFrame] = []
    pixel: dict[str, PixelMetrics] = {}
    steps = -(-len(rows) // BATCH)
    for batch in tqdm(batches(rows, BATCH), "scoring", steps, disable=None, unit="batch"):
        scored = scorer.score(batch)
        parts.append(pd.DataFrame(scored.components))
        for position, row in enumerate(batch):
            if row in judged and (mask := prepared.mask(int(row))) is not None:
                for name, maps in scored.maps.items():
                    if name not in pixel:
                        pixel[name] = PixelMetrics()
                    pixel[name].update(maps[position], mask)
    table = prepared.index.iloc[rows][list(SCORE_TABLE_COLUMNS)].reset_index(drop=True)
    table = pd.concat([table, pd.concat(parts, ignore_index=True)], axis=1)
    logger.info("%d images scored", len(rows))
    return table, {name: metric.compute(fpr_limit) for name, metric in pixel.items()}


def save_gallery(path: Path, prepared: Prepared, scorer: Scorer, table: pd.DataFrame) -> None:
    """Write the test images that `choose_images` picks, with reconstructions and maps.

    Without a test the gallery is there, and empty.
    """
    test = table[table["split"] == Split.TEST].reset_index(drop=True)
    positions, reasons = choose_images(test)
    rows = prepared.rows(Split.TEST)[positions]
    chosen = test.iloc[positions]
    parts = [_pictures(prepared, scorer, batch) for batch in batches(rows, BATCH)] or [_NOTHING]
    arrays: dict[str, Any] = {
        "image_id": chosen["image_id"].to_numpy(dtype=str),
        "gt_label": chosen["gt_label"].to_numpy(),
        "defect": chosen["defect"].to_numpy(dtype=str),
        "pick": np.array(reasons),
    }
    arrays |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    components = table.columns.difference(list(SCORE_TABLE_COLUMNS))
    arrays |= {f"score_{name}": chosen[name].to_numpy() for name in components}
    write_gallery(path, arrays)


def _pictures(prepared: Prepared, scorer: Scorer, rows: Rows) -> dict[str, Any]:
    """Return what `write_gallery` takes of some images."""
    scored = scorer.score(rows)
    masks = [prepared.mask(int(row)) for row in rows]
    empty = np.zeros(prepared.images.shape[1:3], dtype=bool)
    known = np.stack([empty if mask is None else mask for mask in masks])
    pictures = {
        "image": shrink(prepared.images[rows]),
        "mask": shrink(in_bytes(known)) >= 128,
        "has_mask": np.array([mask is not None for mask in masks]),
    }
    if scored.reconstruction is not None:
        pictures["reconstruction"] = shrink(in_bytes(scored.reconstruction))
    for name, maps in scored.maps.items():
        if name == AnomalyMap.DIFFERENCE:
            pictures[name] = in_bytes(shrink(maps))
        else:
            pictures[f"{name}_map"] = shrink(scored.coarse.get(name, maps), MAP_SIDE)
    return pictures
