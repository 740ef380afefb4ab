"""What can be a threshold, and which parts of a mask stay."""

import math

import numpy as np
import pytest

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.masks import check_threshold, without_islands


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_a_probability_is_one(value):
    assert check_threshold(value) == value and isinstance(check_threshold(value), float)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, True, "0.5", None])
def test_anything_else_is_refused(value):
    with pytest.raises(DataError, match=f"threshold {value}: expected a probability from 0 to 1"):
        check_threshold(value)


TWO_PARTS = np.array(  # foremost: excess 4 x 0.4 = 1.6 of the first row and the corner that touches it; the other: 0.15
    [
        [0.9, 0.9, 0.9, 0.1, 0.1, 0.1],
        [0.1, 0.1, 0.1, 0.9, 0.1, 0.6],
        [0.1, 0.4, 0.1, 0.1, 0.1, 0.55],
    ],
    dtype=np.float32,
)


@pytest.mark.parametrize(("share", "left"), [(0.0, 6), (0.09, 6), (0.1, 4), (1.0, 4)])
def test_a_part_that_little_speaks_for_is_left_out(share, left):
    """By hand: 0.15 / 1.6 is 0.094."""
    found = without_islands(TWO_PARTS, share)
    assert (found >= 0.5).sum() == left and found.dtype == np.float32
    kept = found >= 0.5
    np.testing.assert_array_equal(found[kept], TWO_PARTS[kept])
    np.testing.assert_array_equal(found[TWO_PARTS < 0.5], TWO_PARTS[TWO_PARTS < 0.5])
    assert left == 6 or found[1, 5] == found[2, 5] == np.nextafter(np.float32(0.5), np.float32(0))


def test_parts_are_those_of_the_threshold_that_is_asked_for():
    """From 0.3 on there is a third part of one pixel: its excess 0.1 is 0.04 of the foremost's 2.4, that of the second 0.23."""
    assert (without_islands(TWO_PARTS, 0.05, 0.3) >= 0.3).sum() == 6
    assert (without_islands(TWO_PARTS, 0.04, 0.3) >= 0.3).sum() == 7
    assert (without_islands(TWO_PARTS, 0.3, 0.3) >= 0.3).sum() == 4


def test_maps_are_taken_each_by_itself_and_a_blank_or_whole_one_stays():
    blank, whole = np.zeros_like(TWO_PARTS), np.ones_like(TWO_PARTS)
    found = without_islands(np.stack([TWO_PARTS, blank, whole]), 0.1)
    np.testing.assert_array_equal(found[0], without_islands(TWO_PARTS, 0.1))
    np.testing.assert_array_equal(found[1:], [blank, whole])


def test_parts_as_sure_as_the_threshold_all_stay():
    level = np.array([[0.5, 0.0, 0.5]], dtype=np.float32)
    np.testing.assert_array_equal(without_islands(level, 1.0), level)
