"""Entries of a manifest lead to files below their root and nowhere else."""

from pathlib import Path

import pytest

from ultrarefiner_monai.data.releases.roots import folders_of, resolve, unsafe
from ultrarefiner_monai.errors import DataError


def test_paths_are_resolved_below_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    (tmp_path / "secret.png").touch()
    (root / "images/out.png").symlink_to(tmp_path / "secret.png")
    (root / "away").symlink_to(tmp_path)
    (root / "images/a.png").touch()
    (root / "images/in.png").symlink_to(root / "images/a.png")
    assert resolve(root, "images/a.png") == root / "images/a.png"
    assert resolve(root, "images/in.png").is_file()
    assert resolve(root, "images/absent.png") == root / "images/absent.png"
    for outside in ("images/out.png", "away/secret.png"):
        with pytest.raises(DataError, match="a link leads out of the dataset root"):
            resolve(root, outside)
    for wrong in ("../secret.png", "/etc/passwd", "a\\b", ""):
        with pytest.raises(DataError, match="expected a path below"):
            resolve(root, wrong)


def test_a_linked_root_is_fine(tmp_path: Path) -> None:
    (tmp_path / "store/images").mkdir(parents=True)
    (tmp_path / "store/images/a.png").touch()
    (tmp_path / "root").symlink_to(tmp_path / "store")
    assert resolve(tmp_path / "root", "images/a.png").is_file()


def test_entries_of_combined_data_sets_start_with_the_name(tmp_path: Path) -> None:
    root = {"BUSI": tmp_path / "a", "BUSBRA": tmp_path / "b"}
    assert resolve(root, "BUSBRA/Images/1.png") == tmp_path / "b/Images/1.png"
    with pytest.raises(DataError, match="start with one of BUSI, BUSBRA"):
        resolve(root, "BUS/Images/1.png")
    with pytest.raises(DataError, match="leaves the dataset root"):
        resolve(root, "BUSI/../b/Images/1.png")
    assert folders_of(root) == {"BUSI/": tmp_path / "a", "BUSBRA/": tmp_path / "b"}
    assert folders_of(tmp_path) == {"": tmp_path}


@pytest.mark.parametrize("path", ["a/" * 500 + "b.png", "a" * 256, f"{'é' * 128}.png"])
def test_paths_that_no_file_system_has_are_unsafe(path):
    assert "is longer than a file's can be" in str(unsafe(path))
    assert unsafe("a" * 255) is None
