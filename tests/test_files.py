"""Atomic writes, JSON in and out, and undefined numbers on their way into files."""

import errno
import math
import os

import pytest

from ultrarefiner_monai.errors import DataError, refusal
from ultrarefiner_monai.files import (
    append_line,
    atomic_folder,
    atomic_write,
    finite,
    is_free,
    json_or_empty,
    read_json,
    remove_partials,
    without_folders,
    write_json,
    write_output,
)


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


def test_json_returns_and_is_plain(tmp_path):
    write_json(tmp_path / "new/a.json", {"a": (1, math.nan), "é": None})
    assert (tmp_path / "new/a.json").read_text(encoding="utf-8") == '{\n "a": [\n  1,\n  null\n ],\n "é": null\n}\n'
    assert read_json(tmp_path / "new/a.json", dict, "") == {"a": [1, None], "é": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as JSON .*; write it again"),
        (b"{", "cannot be read as JSON .*; write it again"),
        (b"\xff", "cannot be read as JSON .*; write it again"),
        (b"[]", "expected a JSON object, found list; write it again"),
        (b"[" * 100_000, r"cannot be read as JSON \(maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_json_object_is_told_or_taken_for_empty(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.json: {message}"):
        read_json(path, dict, "write it again")
    assert json_or_empty(path, dict) == {}


def test_an_output_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^report .*x: cannot be written \(.+\); free space or name another folder"):
        write_output("report", tmp_path / "file/x", b"")


def test_only_whole_paths_lose_their_folders():
    assert [without_folders(value) for value in ("/a/b.pt", "a/b.pt", 3)] == ["b.pt", "a/b.pt", 3]


def test_what_killed_writers_have_left_is_removed(tmp_path):
    for name in (".a.pt.partial", ".b.json.77.partial", ".c.json.78.partial", "d.partial", ".lock"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".b.json.77.partial", (0, 0))
    remove_partials(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.json.78.partial", ".lock", "d.partial"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    for folder in (tmp_path / "absent", tmp_path / "present"):
        (tmp_path / "present" / "sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / "present" / "sub" / "mine").touch()
        with pytest.raises(ZeroDivisionError), atomic_folder(folder) as unfinished:
            (unfinished / "a").touch()
            1 / 0  # noqa: B018
        assert not (folder / "a").exists() and is_free(folder) == (folder.name == "absent")
        with atomic_folder(folder) as unfinished:
            (unfinished / "sub").mkdir()
            (unfinished / "sub" / "b").touch()
        assert (folder / "sub" / "b").is_file() and not list(tmp_path.rglob("*.partial"))
    assert (tmp_path / "present" / "sub" / "mine").is_file()


def test_a_line_is_added_whole_behind_what_a_killed_process_left(tmp_path):
    (tmp_path / "lines").write_text("one\nha")
    append_line(tmp_path / "lines", "two")
    append_line(tmp_path / "lines", "three")
    assert (tmp_path / "lines").read_text() == "one\nha\ntwo\nthree\n"
    append_line(tmp_path / "new", "one")
    assert (tmp_path / "new").read_text() == "one\n"


def test_the_error_names_the_file_that_was_meant(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught, atomic_write(tmp_path / "x"):
        raise full
    assert refusal(caught.value) == (
        f"{tmp_path / 'x'}: cannot be used (No space left on device); free space or name another folder"
    )
    assert refusal(OSError("of a library")) is None
