"""Measures of masks whose size is known by hand."""

import math

import numpy as np
import pytest
from skimage.draw import ellipse
from skimage.measure import regionprops

from ultrarefiner_monai.deploy.predict.measures import diameter_lines, diameters, measure
from ultrarefiner_monai.models.ensemble import Consensus


def mask_of(shape, *boxes):
    mask = np.zeros(shape, dtype=bool)
    for rows, columns in boxes:
        mask[slice(*rows), slice(*columns)] = True
    return mask


def consensus_of(probability, quality=math.nan):
    return Consensus(probability.astype(np.float32), np.zeros(probability.shape, np.float32), quality)


def test_a_line_is_as_long_as_its_pixels():
    mask = mask_of((20, 30), ((4, 5), (0, 30)))  # from border to border
    assert diameters(mask) == pytest.approx((30, 1))
    assert diameters(mask.T) == pytest.approx((30, 1))
    assert diameters(mask, (0.5, 0.2)) == pytest.approx((6, 0.5))
    assert diameters(mask_of((3, 3), ((1, 2), (1, 2)))) == pytest.approx((1, 1))


def test_both_diameters_lie_on_the_mask_that_they_measure():
    mask = mask_of((20, 40), ((5, 15), (4, 34)))  # 30 x 10; corners are cut, so that its edges are the tangents
    longest, across = diameter_lines(mask)
    assert sorted(longest[:, 1].tolist()) == [3.5, 33.5] and np.hypot(*(longest[1] - longest[0])) == diameters(mask)[0]
    assert np.dot(longest[1] - longest[0], across[1] - across[0]) == pytest.approx(0)
    assert across.mean(0) == pytest.approx((9.5, 18.5), abs=0.01)  # the middle of rows 5 to 14 and columns 4 to 33
    narrow = diameter_lines(mask_of((20, 30), ((4, 5), (0, 30))), (0.5, 0.2))
    assert narrow[0] == pytest.approx(np.array([(2, -0.1), (2, 5.9)])) or narrow[0] == pytest.approx(
        np.array([(2, 5.9), (2, -0.1)])
    )
    assert diameter_lines(np.zeros((3, 3), dtype=bool)).shape == (0, 2, 2)


def test_the_longest_diameter_is_close_to_skimages_and_in_millimetres_may_run_elsewhere():
    mask = np.zeros((120, 160), dtype=bool)
    mask[ellipse(60, 80, 20, 50, rotation=0.5)] = True
    (region,) = regionprops(mask.astype(int))
    longest, across = diameters(mask)
    assert longest == pytest.approx(region.feret_diameter_max, abs=1)
    assert (longest, across) == pytest.approx((100, 40), abs=1.5)
    upright = np.zeros((200, 200), dtype=bool)
    upright[ellipse(100, 100, 30, 50)] = True  # half axes, down 30 px and along 50 px, are 9 and 5 mm
    assert diameters(upright, (0.3, 0.1)) == pytest.approx((18, 10), abs=0.3)


def test_all_parts_count_for_the_area_and_the_largest_for_the_diameters():
    mask = mask_of(
        (40, 50), ((0, 10), (0, 20)), ((30, 32), (0, 45)), ((10, 11), (20, 21))
    )  # the last touches the first
    probability = np.where(mask, 0.8, 0.1)
    probability[0, 0] = 0.9
    row = measure(mask, consensus_of(probability, 0.7), (0.2, 0.1))
    assert (row["area_px"], row["components"]) == (200 + 90 + 1, 2)
    assert row["area_mm2"] == pytest.approx(291 * 0.02)
    assert row["diameter_px"] == pytest.approx(math.hypot(20.5, 10.5), abs=0.7)
    assert row["diameter_mm"] == pytest.approx(math.hypot(2.05, 2.1), abs=0.1)
    assert row["mean_probability"] == pytest.approx((0.8 * 290 + 0.9) / 291)
    assert row["max_probability"] == pytest.approx(0.9)
    assert row["sam_predicted_iou"] == 0.7


def test_what_is_undefined_is_nan():
    blank = measure(np.zeros((4, 5), dtype=bool), consensus_of(np.full((4, 5), 0.2)), (1, 1))
    assert (blank["area_px"], blank["area_mm2"], blank["components"]) == (0, 0, 0)
    undefined = {key for key, value in blank.items() if math.isnan(value)}
    assert undefined == {
        *("diameter_px", "perpendicular_px", "diameter_mm", "perpendicular_mm"),
        *("mean_probability", "sam_predicted_iou"),
    }
    row = measure(np.ones((4, 5), dtype=bool), consensus_of(np.ones((4, 5)), 1.0), None)
    undefined = {key for key, value in row.items() if math.isnan(value)}
    assert undefined == {"area_mm2", "diameter_mm", "perpendicular_mm"}
