"""Scoring: every score component of every validation and test image, in one pass."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from aeflow.core.types import SCORE_TABLE_COLUMNS, AnomalyMap, Split
from aeflow.data.prepared import Prepared
from aeflow.encoder.features import FeatureSource
from aeflow.models.aeflow import AEFlow, AEFlowOutput
from aeflow.models.components import (
    difference_map,
    flow_map,
    flow_scores,
    local_density,
    reconstruction_scores,
)
from aeflow.scoring.gallery import SIDE, choose_images, write_gallery
from aeflow.scoring.pixel_metrics import PixelMetrics

logger = logging.getLogger(__name__)
BATCH = 16


@torch.inference_mode()
def score_images(
    prepared: Prepared, source: FeatureSource, model: AEFlow, fpr_limit: float
) -> tuple[pd.DataFrame, dict[str, dict[str, float | None]]]:
    """Score all validation and test images.

    Args:
        prepared: images, masks and index.
        source: their features.
        model: on the source's device.
        fpr_limit: AUPRO's limit.

    Returns:
        The score table, and per map the pixel metrics of the test images that have masks
        (empty where the dataset has none).
    """
    model.eval()
    rows = prepared.rows(Split.VALIDATION, Split.TEST)
    parts: list[pd.DataFrame] = []
    pixel: dict[AnomalyMap, PixelMetrics] = {}
    for start in tqdm(range(0, len(rows), BATCH), "scoring", disable=None, unit="batch"):
        batch = rows[start : start + BATCH]
        images, out = run_model(source, model, batch)
        scores: dict[str, Tensor] = {}
        maps: dict[AnomalyMap, Tensor] = {}
        if model.flow is not None:
            flow = flow_scores(out.z, out.log_det)
            scores |= {name.value: values for name, values in flow.items()}
            maps[AnomalyMap.FLOW] = flow_map(out.z, images.shape[-1])
        if out.reconstruction is not None:
            recon = reconstruction_scores(images, out.reconstruction)
            scores |= {name.value: values for name, values in recon.items()}
            maps[AnomalyMap.DIFFERENCE] = difference_map(images, out.reconstruction)
        parts.append(
            pd.DataFrame({name: values.cpu().double() for name, values in scores.items()})
        )
        if len(prepared.masks):
            _update_pixel_metrics(pixel, maps, prepared, batch)
    table = prepared.index.iloc[rows][list(SCORE_TABLE_COLUMNS)].reset_index(drop=True)
    table = pd.concat([table, pd.concat(parts, ignore_index=True)], axis=1)
    logger.info("%d images scored", len(rows))
    return table, {str(name): metric.compute(fpr_limit) for name, metric in pixel.items()}


def run_model(
    source: FeatureSource, model: AEFlow, rows: NDArray[np.int64]
) -> tuple[Tensor, AEFlowOutput]:
    """Return images (B, 3, H, W) and the model's output, both with pixels in [0, 1]."""
    images = source.images(rows)
    out: AEFlowOutput = model(source.features(rows, images))
    if model.decoder is not None and out.reconstruction is not None:
        out = out._replace(reconstruction=model.decoder.pixels(out.reconstruction))
    return images, out


def _update_pixel_metrics(
    pixel: dict[AnomalyMap, PixelMetrics],
    maps: dict[AnomalyMap, Tensor],
    prepared: Prepared,
    rows: NDArray[np.int64],
) -> None:
    on_host = {name: values.cpu().numpy() for name, values in maps.items()}
    for position, row in enumerate(rows):
        mask = prepared.mask(int(row))
        if mask is None or prepared.index["split"].iloc[row] != Split.TEST:
            continue
        for name, values in on_host.items():
            pixel.setdefault(name, PixelMetrics()).update(values[position], mask)


@torch.inference_mode()
def save_gallery(
    path: Path, prepared: Prepared, source: FeatureSource, model: AEFlow, table: pd.DataFrame
) -> None:
    """Write the test images that `choose_images` picks, with reconstructions and maps."""
    test = table[table["split"] == Split.TEST].reset_index(drop=True)
    positions, reasons = choose_images(test)
    rows = prepared.rows(Split.TEST)[positions]
    chosen = test.iloc[positions]
    starts = range(0, max(len(rows), 1), BATCH)
    batches = [_pictures(prepared, source, model, rows[i : i + BATCH]) for i in starts]
    arrays: dict[str, Any] = {
        "image_id": chosen["image_id"].to_numpy(dtype=str),
        "gt_label": chosen["gt_label"].to_numpy(),
        "defect": chosen["defect"].to_numpy(dtype=str),
        "pick": np.array(reasons),
        **{name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]},
    }
    components = table.columns.difference(list(SCORE_TABLE_COLUMNS))
    arrays |= {f"score_{name}": chosen[name].to_numpy() for name in components}
    write_gallery(path, arrays)


def _pictures(
    prepared: Prepared, source: FeatureSource, model: AEFlow, rows: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return what the gallery shows of some images: see `write_gallery`."""
    images, out = run_model(source, model, rows)
    masks = [prepared.mask(int(row)) for row in rows]
    empty = np.zeros(prepared.images.shape[1:3], dtype=bool)
    mask = torch.from_numpy(np.stack([empty if m is None else m for m in masks])).float()
    pictures: dict[str, NDArray[Any]] = {
        "image": _picture(images),
        "mask": _picture(mask[:, None])[..., 0] >= 128,
        "has_mask": np.array([m is not None for m in masks]),
    }
    if out.reconstruction is not None:
        difference = difference_map(images, out.reconstruction)
        pictures["reconstruction"] = _picture(out.reconstruction)
        pictures["difference"] = _picture(difference[:, None])[..., 0]
    if model.flow is not None:
        pictures["flow_map"] = local_density(out.z).cpu().numpy()
    return pictures


def _picture(values: Tensor) -> NDArray[np.uint8]:
    """Average (B, c, H, W) in [0, 1] down to pictures, (B, s, s, c)."""
    side = min(values.shape[-1], SIDE)
    small = torch.nn.functional.interpolate(values.cpu(), (side, side), mode="area")
    return (small * 255).round().byte().permute(0, 2, 3, 1).numpy()
