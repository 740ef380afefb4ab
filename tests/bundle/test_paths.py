"""Where a bundle is and where its results go, in a checkout, in an installed package and in an exported bundle."""

from pathlib import Path

import pytest

from ultrarefiner_monai.bundle import paths


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """The package lies in `tmp_path / "place"`; commands are given in `tmp_path / "here"`."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("sys.argv", ["run"])
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "place" / "ultrarefiner_monai")
    return tmp_path / "place" / "ultrarefiner_monai"


def test_results_of_an_installed_bundle_go_to_the_working_directory(package, tmp_path):
    installed = str(package / "_shipped" / "bundles" / "phase2")
    assert paths.results_root(installed) == tmp_path / "here" / "bundles" / "phase2"
    assert paths.project_root(installed) == tmp_path / "here"


def test_results_of_other_bundles_stay_with_them(package, tmp_path):
    assert paths.results_root(str(tmp_path / "bundles" / "phase2")) == tmp_path / "bundles" / "phase2"
    assert paths.project_root(str(tmp_path / "bundles" / "phase2")) == tmp_path
    assert paths.project_root(str(tmp_path / "exported")) == tmp_path / "exported"


def test_the_package_inside_a_bundle_knows_its_bundle(package, tmp_path):
    configs = package.parent / "configs"
    configs.mkdir(parents=True)
    assert paths.bundle_root("phase2") == str(paths.BUNDLES / "phase2")  # any folder may be called configs
    (configs / "metadata.json").touch()
    assert paths.bundle_root("phase2") == str(package.parent)


def test_bundle_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run"])
    assert Path(paths.bundle_root("phase2")) == paths.BUNDLES / "phase2"


def test_an_exported_copy_is_its_own_root(tmp_path, monkeypatch):
    configs = tmp_path / "exported" / "configs"
    configs.mkdir(parents=True)
    (configs / "train.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["run", "--config_file", f"['{configs / 'train.json'}']"])
    assert Path(paths.bundle_root("phase2")) == tmp_path / "exported"
    assert paths.project_root(str(tmp_path / "exported")) == tmp_path / "exported"
