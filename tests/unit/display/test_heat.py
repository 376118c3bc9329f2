"""The colours of a map on an image, and the lines around defects."""

import numpy as np

from aeflow.display.heat import outline, under_map

YELLOW = [255, 255, 0]


def test_colour_begins_at_the_median_and_is_half_as_strong_at_the_limit():
    image = np.full((1, 5, 3), 100, np.uint8)
    values = np.array([[0.0, 1.0, 2.0, 3.0, np.nan]])
    heated = under_map(image, values, low=1.0, limit=3.0)
    assert heated[0, [0, 1, 4]].tolist() == [[100] * 3] * 3, "not above the median, or not known"
    # A share of 1/2 at the limit, 1/4 halfway, of an opacity of 0.6: 100 + 0.3 * (255 - 100), ...
    assert heated[0, 3].tolist() == [146, 97, 70]
    assert heated[0, 2].tolist() == [123, 98, 85]


def test_a_contour_surrounds_what_is_above_the_limit_at_the_border_too():
    values = np.zeros((5, 6))
    values[0:4, 1:5] = 9
    heated = under_map(np.zeros((5, 6, 3), np.uint8), values, low=0.0, limit=1.0)
    yellow = (heated == YELLOW).all(axis=2)
    expected = values > 1
    expected[1:3, 2:4] = False
    assert yellow.tolist() == expected.tolist()
    assert heated[1, 2].tolist() == [153, 54, 0], "0.6 of the colour where the map is highest"


def test_an_outline_is_the_ring_around_a_mask():
    mask = np.zeros((4, 5))
    mask[0, 1:3] = 1
    ring = np.zeros((4, 5), bool)
    ring[0, [0, 3]] = ring[1, 1:3] = True
    assert outline(mask).tolist() == ring.tolist()
    assert not outline(np.zeros((3, 3))).any()
    assert not outline(np.ones((3, 3))).any()
