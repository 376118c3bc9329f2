"""AUPRO as its definition reads, pixel by pixel: slow, and independent of the package."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def regions_of(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Return the 8-connected regions of a mask (H, W), each a set of pixels."""
    unseen = {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while unseen:
        region, frontier = set(), [unseen.pop()]
        while frontier:
            row, column = frontier.pop()
            region.add((row, column))
            for neighbour in (
                (row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)
            ):
                if neighbour in unseen:
                    unseen.remove(neighbour)
                    frontier.append(neighbour)
        regions.append(region)
    return regions


def aupro(
    anomaly_maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], fpr_limit: float
) -> float:
    """Return the area under PRO(FPR) up to the limit, divided by the limit.

    At each threshold: FPR is the share of all normal pixels with a value >= threshold; PRO is
    the mean, over all regions of all masks, of the share of the region that is found.
    """
    normal_pixels = sum(int((mask == 0).sum()) for mask in masks)
    regions = [regions_of(mask) for mask in masks]
    curve = [(0.0, 0.0)]
    for threshold in sorted(
        {float(v) for image in anomaly_maps for v in image.flat}, reverse=True
    ):
        false, shares = 0, []
        for image, mask, regions_of_image in zip(anomaly_maps, masks, regions, strict=True):
            called = image >= threshold
            false += int((called & (mask == 0)).sum())
            for region in regions_of_image:
                shares.append(sum(bool(called[pixel]) for pixel in region) / len(region))
        curve.append((false / normal_pixels, sum(shares) / len(shares)))
    area = 0.0
    for (fpr, pro), (next_fpr, next_pro) in pairwise(curve):
        if next_fpr > fpr_limit:
            at_limit = pro + (next_pro - pro) * (fpr_limit - fpr) / (next_fpr - fpr)
            area += (fpr_limit - fpr) * (pro + at_limit) / 2
            break
        area += (next_fpr - fpr) * (pro + next_pro) / 2
    return area / fpr_limit
