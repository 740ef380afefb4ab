"""What can be a threshold."""

import math

import pytest

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.masks import check_threshold


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_a_probability_is_one(value):
    assert check_threshold(value) == value and isinstance(check_threshold(value), float)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, True, "0.5", None])
def test_anything_else_is_refused(value):
    with pytest.raises(DataError, match=f"threshold {value}: expected a probability from 0 to 1"):
        check_threshold(value)
