"""Pixel AUROC and AUPRO in one pass over the images, with constant memory.

Both are areas under a curve over all thresholds, so a histogram of the maps' values is enough.
Its bins follow the binary form of float32 and start at one bin per value that float32 can tell
apart; where the range is too wide for that, neighbouring bins are merged in pairs.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from aeflow.core.errors import DataError

Array = npt.NDArray[Any]

_EIGHT_NEIGHBOURS = np.ones((3, 3))


class PixelMetrics:
    """Collects anomaly maps and masks, one image at a time.

    Exact while the values of all maps cover at most 2^22 neighbouring float32 numbers (half an
    octave, or 300 +- 60), and otherwise exact up to values that differ by less than a share of
    2^-13, which may count as equal. Holds 96 MiB whatever the number of images.

    AUPRO: mean over regions of the region's share that is found, integrated over the
    false-positive rate up to a limit and divided by it (Bergmann et al. 2021, "The MVTec Anomaly
    Detection Dataset"). As in MVTec's own evaluation and in anomalib, a region is an 8-connected
    component of a mask, and the rate is that of the normal pixels of all images.
    """

    def __init__(self, bins: int = 2**22) -> None:
        self._histogram = np.zeros((3, bins))  # normal, anomalous, anomalous / size of the region
        self._bins = bins
        self._shift = 0  # a bin holds 2^shift neighbouring float32 numbers
        self._first = 0  # code of the first bin, in units of 2^shift
        self._low, self._high = 2**32, -1  # codes seen so far
        self._regions = 0

    def update(self, anomaly_map: Array, mask: Array) -> None:
        """Add an image: its map (H, W) float32, higher is more anomalous, and mask (H, W).

        Raises:
            DataError: the shapes differ or the map holds a number that is not finite.
        """
        if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape:
            raise DataError(
                f"An anomaly map of shape {anomaly_map.shape} does not fit a mask of shape "
                f"{mask.shape}: prepare the images again."
            )
        if not np.isfinite(anomaly_map).all():
            raise DataError(
                "An anomaly map holds a number that is not finite: look at the history of the "
                "training, which probably diverged."
            )
        code = _ordered_code(anomaly_map)
        self._cover(int(code.min()), int(code.max()))
        index = (code >> self._shift) - self._first
        from scipy import ndimage  # 0.3 s of CPU time, not where there are no masks

        label, regions = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
        inside = label > 0
        size = np.bincount(label[inside], minlength=1)
        normal, anomalous, overlap = self._histogram
        np.add.at(normal, index[~inside], 1.0)
        np.add.at(anomalous, index[inside], 1.0)
        np.add.at(overlap, index[inside], 1 / size[label[inside]])
        self._regions += regions

    def compute(self, fpr_limit: float) -> dict[str, float | None]:
        """Return `pixel_auroc` and `aupro`, None without anomalous or without normal pixels.

        AUPRO is interpolated linearly at `fpr_limit`, in (0, 1].
        """
        used = np.flatnonzero(self._histogram[:2].any(axis=0))[::-1]
        fp, tp, overlap = np.cumsum(np.pad(self._histogram[:, used], ((0, 0), (1, 0))), axis=1)
        if fp[-1] == 0 or tp[-1] == 0:
            return {"pixel_auroc": None, "aupro": None}
        fpr, tpr = fp / fp[-1], tp / tp[-1]
        pro = np.minimum(overlap / self._regions, 1)  # a sum of shares may round above 1
        within = fpr <= fpr_limit
        limited_fpr = np.append(fpr[within], fpr_limit)
        limited_pro = np.append(pro[within], np.interp(fpr_limit, fpr, pro))
        areas = {
            "pixel_auroc": np.trapezoid(tpr, fpr),
            "aupro": np.trapezoid(limited_pro, limited_fpr) / fpr_limit,
        }
        return {name: min(float(area), 1.0) for name, area in areas.items()}  # but for rounding

    def _cover(self, low: int, high: int) -> None:
        """Make room for codes from `low` to `high`: move the bins, or merge pairs of them."""
        low, high = self._low, self._high = min(low, self._low), max(high, self._high)
        old_shift, old_first, histogram = self._shift, self._first, self._histogram
        last = old_first + self._bins - 1
        if old_first <= low >> old_shift and high >> old_shift <= last:
            return
        shift = old_shift
        while (high >> shift) - (low >> shift) >= self._bins:
            shift += 1
        # In the middle, so that a slowly growing range seldom ends up here.
        first = ((high >> shift) + (low >> shift) - self._bins + 1) // 2
        used = np.flatnonzero(histogram[:2].any(axis=0))
        index = ((used + old_first) << old_shift >> shift) - first
        counts = histogram[:, used]
        histogram[:, used] = 0  # in its place: it is large
        for row, moved in zip(histogram, counts, strict=True):
            np.add.at(row, index, moved)
        self._shift, self._first = shift, first


def _ordered_code(values: Array) -> Array:
    """Return whole numbers (int64, below 2^32) in the order of float32 values.

    Positive float32 numbers sort like their bits, negative ones the other way round.
    """
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    code = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    return code.astype(np.int64)
