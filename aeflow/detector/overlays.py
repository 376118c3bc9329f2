"""An image beside itself under its anomaly map."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aeflow.core.files import atomic_path
from aeflow.data.decode import on_image
from aeflow.detector.detector import Packed

HEAT, CONTOUR = np.array([255, 90, 0], np.float32), np.array([255, 255, 0], np.uint8)
GAP, FOOT = 4, 18  # pixels


def draw_overlay(
    path: Path,
    image: Image.Image,
    anomaly_map: NDArray[np.float32] | None,
    facts: Packed,
    row: Mapping[str, Any],
) -> None:
    """Write an image, beside it itself under its map, and below what was said of it.

    Args:
        path: a PNG.
        image: in its own proportion, RGB.
        anomaly_map: of the prepared square, (S, S); None: the image stands alone.
        facts: how the square was cut, and which values of a map are usual (`map_scale`).
        row: of predictions.csv.
    """
    shown = [image]
    if anomaly_map is not None and facts.map_scale is not None:
        whole = on_image(anomaly_map, image.size, facts.data)
        shown.append(under_map(image, whole, *facts.map_scale))
    width, height = image.size
    page = Image.new("RGB", (len(shown) * (width + GAP) - GAP, height + FOOT), "white")
    for place, each in enumerate(shown):
        page.paste(each, (place * (width + GAP), 0))
    # No verdict: the page has a slider for the threshold.
    told = f"score {float(row['pred_score']):.4g}  p {float(row['p_value']):.3g}"
    ImageDraw.Draw(page).text((2, height + 2), told, fill="black")
    with atomic_path(path) as part:
        page.save(part)


def under_map(
    image: Image.Image, anomaly_map: NDArray[np.float32], low: float, limit: float
) -> Image.Image:
    """Return an image under a map of its size, with a contour around what is above `limit`."""
    values = np.nan_to_num(anomaly_map, nan=low)
    high = values > limit
    # Half as strong at the limit as where the map is highest.
    opacity = np.clip((values - low) / (2 * (limit - low) or 1.0), 0, 1)[..., None] * 0.6
    mixed = (1 - opacity) * np.asarray(image, np.float32) + opacity * HEAT
    pixels = mixed.round().astype(np.uint8)
    edge = np.pad(high, 1)
    inner = edge[:-2, 1:-1] & edge[2:, 1:-1] & edge[1:-1, :-2] & edge[1:-1, 2:]
    pixels[high & ~inner] = CONTOUR
    return Image.fromarray(pixels)
