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
from aeflow.display.heat import under_map

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
        pixels = under_map(np.asarray(image), whole, *facts.map_scale)
        shown.append(Image.fromarray(pixels))
    width, height = image.size
    page = Image.new("RGB", (len(shown) * (width + GAP) - GAP, height + FOOT), "white")
    for place, each in enumerate(shown):
        page.paste(each, (place * (width + GAP), 0))
    # No verdict: the page has a slider for the threshold.
    told = f"score {float(row['pred_score']):.4g}  p {float(row['p_value']):.3g}"
    ImageDraw.Draw(page).text((2, height + 2), told, fill="black")
    with atomic_path(path) as part:
        page.save(part)
