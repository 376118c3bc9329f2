"""An image under its anomaly map, and the line around a known defect."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEAT, _CONTOUR = np.array([255, 90, 0], np.float32), np.array([255, 255, 0], np.uint8)
_OPACITY = 0.6  # where a map is highest


def under_map(
    image: NDArray[np.uint8], anomaly_map: NDArray[Any], low: float, limit: float
) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) under its map (H, W), with a contour around what is above `limit`.

    Args:
        low: up to here the image stays as it is; at `limit` the colour is half as strong as it can
            be. Where a map is nan there is none.
    """
    values = np.nan_to_num(anomaly_map.astype(np.float32), nan=low)
    opacity = _OPACITY * np.clip((values - low) / (2 * (limit - low) or 1.0), 0, 1)[..., None]
    mixed = (1 - opacity) * image + opacity * _HEAT
    pixels: NDArray[np.uint8] = mixed.round().astype(np.uint8)
    high = values > limit
    pixels[high & _beside(~high, border=True)] = _CONTOUR
    return pixels


def outline(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the pixels just outside a mask (H, W)."""
    known = mask.astype(bool)
    return ~known & _beside(known, border=False)


def _beside(mask: NDArray[np.bool_], border: bool) -> NDArray[np.bool_]:
    """Return where one of the four neighbours is set; `border`: what those of no image are."""
    wide = np.pad(mask, 1, constant_values=border)
    beside: NDArray[np.bool_] = wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    return beside
