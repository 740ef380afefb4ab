"""Atomic writes."""

import pytest

from ultrarefiner_monai.data.files import atomic_write


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
