"""Scoring: every score component of every validation and test image, in one pass."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from aeflow.core.types import SCORE_TABLE_COLUMNS, AnomalyMap, Split
from aeflow.data.prepared import Prepared
from aeflow.methods.method import BatchScores, Scorer, batches
from aeflow.scoring.gallery import MAP_SIDE, as_file, in_bytes, shrink
from aeflow.scoring.pixel_metrics import PixelMetrics

logger = logging.getLogger(__name__)
BATCH = 16
MAP_QUANTILE = 0.95


class Scored(NamedTuple):
    """All that a pass over the images gives.

    Attributes:
        table: the score table.
        pixel: per map the metrics of the test images that have masks; empty where the dataset has
            none, or the method no map.
        gallery: what `write_gallery` takes; of no image where there is no test.
    """

    table: pd.DataFrame
    pixel: dict[str, dict[str, float | None]]
    gallery: dict[str, Any]


def score_images(prepared: Prepared, scorer: Scorer, fpr_limit: float) -> Scored:
    """Score all validation and test images."""
    rows = prepared.rows(Split.VALIDATION, Split.TEST)
    test, normal = set(prepared.rows(Split.TEST)), set(prepared.validation_normals)
    parts: list[pd.DataFrame] = []
    pixel: dict[str, PixelMetrics] = {}
    scales: dict[str, MapScale] = {}
    shown: dict[str, list[Any]] = {"image": [], "mask": []}
    steps = -(-len(rows) // BATCH)
    for batch in tqdm(batches(rows, BATCH), "scoring", steps, disable=None, unit="batch"):
        scored = scorer.score(batch)
        parts.append(pd.DataFrame(scored.components))
        small = _small_maps(scored)
        for position, row in enumerate(batch):
            if row in normal:
                for name, maps in small.items():
                    scales.setdefault(name, MapScale()).update(maps[position])
            if row not in test:
                continue
            mask = prepared.mask(int(row))
            for name, picture in _pictures(prepared.images[row], mask, scored, position).items():
                shown.setdefault(name, []).append(picture)
            for name, maps in small.items():
                if name != AnomalyMap.DIFFERENCE:
                    shown.setdefault(f"{name}_map", []).append(maps[position])
            if mask is not None:
                for name, maps in scored.maps.items():
                    pixel.setdefault(name, PixelMetrics()).update(maps[position], mask)
    table = prepared.index.iloc[rows][list(SCORE_TABLE_COLUMNS)].reset_index(drop=True)
    table = pd.concat([table, pd.concat(parts, ignore_index=True)], axis=1)
    logger.info("%d images scored", len(rows))
    gallery: dict[str, Any] = {
        "image_id": table["image_id"][table["split"] == Split.TEST].to_numpy(dtype=str),
        **shown,
        **{f"{name}_scale": scale.compute() for name, scale in scales.items()},
    }
    metrics = {name: metric.compute(fpr_limit) for name, metric in pixel.items()}
    return Scored(table, metrics, gallery)


class MapScale:
    """Where a method's maps are ordinary, and where they are high, by those of normal images."""

    def __init__(self) -> None:
        self._medians: list[float] = []
        self._highest: list[float] = []

    def update(self, anomaly_map: NDArray[Any]) -> None:
        """Add the map of a validation normal, (h, w)."""
        self._medians.append(float(np.median(anomaly_map)))
        self._highest.append(float(anomaly_map.max()))

    def compute(self) -> tuple[float, float] | None:
        """Return their median and what 95 % of them are nowhere above; None without any."""
        if not self._medians:
            return None
        highest = float(np.quantile(self._highest, MAP_QUANTILE))
        return float(np.median(self._medians)), highest


def _small_maps(scored: BatchScores) -> Mapping[str, NDArray[Any]]:
    """Return the maps of a batch as they were before they were enlarged, or averaged down."""
    return {
        name: shrink(scored.coarse.get(name, maps), MAP_SIDE) for name, maps in scored.maps.items()
    }


def _pictures(
    image: NDArray[np.uint8], mask: NDArray[np.bool_] | None, scored: BatchScores, position: int
) -> dict[str, bytes]:
    """Return the files that `write_gallery` takes of an image."""
    known = b"" if mask is None else as_file(shrink(in_bytes(mask[None]))[0] >= 128)
    found = {"image": as_file(shrink(image[None])[0]), "mask": known}
    whole = {"reconstruction": scored.reconstruction}
    whole |= {name: maps for name, maps in scored.maps.items() if name == AnomalyMap.DIFFERENCE}
    for name, pictures in whole.items():
        if pictures is not None:
            found[name] = as_file(shrink(in_bytes(pictures[position : position + 1]))[0])
    return found
