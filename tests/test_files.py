"""Atomic writes, and undefined numbers on their way into files."""

import math

import pytest

from ultrarefiner_monai.files import atomic_write, finite


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path, "w") as file:
        file.write("old")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), atomic_write(path, "w") as file:
        file.write("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old" and [item.name for item in path.parent.iterdir()] == ["file.txt"]


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / ".file.txt.partial").write_text("x" * 1000)
    with atomic_write(tmp_path / "file.txt", "w") as file:
        file.write("new")
    assert (tmp_path / "file.txt").read_text() == "new" and len(list(tmp_path.iterdir())) == 1


def test_numbers_that_json_does_not_have_are_null_at_any_depth():
    value = {"a": math.nan, "b": [1, math.inf, {"c": -math.inf}], "d": (0.5, "nan"), "e": None}
    assert finite(value) == {"a": None, "b": [1, None, {"c": None}], "d": [0.5, "nan"], "e": None}


def test_a_table_leaves_the_cell_empty():
    assert finite({"file": "x.png", "area_mm2": math.nan, "area_px": 3}, instead="") == {
        "file": "x.png", "area_mm2": "", "area_px": 3,
    }  # fmt: skip
