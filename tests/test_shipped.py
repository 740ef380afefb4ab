"""Folders that travel with the package, and the verb that says where they are."""

import pytest

from ultrarefiner_monai import shipped
from ultrarefiner_monai.cli.tools import bundles
from ultrarefiner_monai.errors import DataError


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with a trained bundle; the package believes that it lies in there."""
    root = tmp_path / "checkout"
    for name in (
        "bundles/phase1/configs/train.json",
        "bundles/phase1/models/PHANTOM/model.pt",
        "bundles/phase1/runs/a",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    for name in ("data_manifests", "docs/examples", "package"):
        (root / name).mkdir(parents=True)
    monkeypatch.setattr(shipped, "PACKAGE", root / "package")
    return root


def test_results_of_trainings_stay_behind(checkout, tmp_path):
    shipped.copy_shipped(tmp_path / "built")
    assert [path.name for path in (tmp_path / "built" / "bundles" / "phase1").iterdir()] == ["configs"]
    assert (tmp_path / "built" / "docs" / "examples").is_dir()


def test_an_installed_package_has_its_own(checkout):
    assert shipped.shipped("bundles") == checkout / "bundles"
    shipped.copy_shipped(checkout / "package" / "_shipped")
    assert shipped.shipped("bundles") == checkout / "package" / "_shipped" / "bundles"


def test_results_of_an_installed_bundle_go_to_the_working_directory(checkout, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    installed = str(checkout / "package" / "_shipped" / "bundles" / "phase2")
    assert shipped.results_root(installed) == tmp_path / "here" / "bundles" / "phase2"
    assert shipped.project_root(installed) == tmp_path / "here"


def test_results_of_other_bundles_stay_with_them(checkout, tmp_path):
    assert shipped.results_root(str(tmp_path / "bundles" / "phase2")) == tmp_path / "bundles" / "phase2"
    assert shipped.project_root(str(tmp_path / "bundles" / "phase2")) == tmp_path
    assert shipped.project_root(str(tmp_path / "exported")) == tmp_path / "exported"


def test_the_verb_tells_or_copies_and_overwrites_nothing(checkout, tmp_path, capsys):
    bundles()
    assert capsys.readouterr().out == f"{checkout / 'bundles'}\n"
    bundles(str(tmp_path / "here"))
    assert (tmp_path / "here" / "bundles" / "phase1" / "configs" / "train.json").is_file()
    with pytest.raises(DataError, match="here/bundles: already there"):
        bundles(str(tmp_path / "here"))
