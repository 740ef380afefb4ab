"""Undefined numbers on their way into files."""

import math

from ultrarefiner_monai.data.numbers import finite


def test_numbers_that_json_does_not_have_are_null_at_any_depth():
    value = {"a": math.nan, "b": [1, math.inf, {"c": -math.inf}], "d": (0.5, "nan"), "e": None}
    assert finite(value) == {"a": None, "b": [1, None, {"c": None}], "d": [0.5, "nan"], "e": None}


def test_a_table_leaves_the_cell_empty():
    assert finite({"file": "x.png", "area_mm2": math.nan, "area_px": 3}, instead="") == {
        "file": "x.png", "area_mm2": "", "area_px": 3,
    }  # fmt: skip
