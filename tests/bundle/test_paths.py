"""Where a bundle, its code and its manifests are, in a checkout, in an installed package and in an exported bundle."""

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from ultrarefiner_monai.bundle import paths
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.shipped import BUNDLES, shipped

IMPORTS = ["$import ultrarefiner_monai.bundle as bundle"]
ROOT = "$bundle.bundle_root('phase2')"


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """The package lies in `tmp_path / "place"`; commands are given in `tmp_path / "here"`."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "place" / "ultrarefiner_monai")
    return tmp_path / "place" / "ultrarefiner_monai"


def test_the_package_inside_a_bundle_knows_its_bundle(package, tmp_path):
    configs = package.parent / "configs"
    configs.mkdir(parents=True)
    assert root_of() == str(BUNDLES / "phase2")  # any folder may be called configs
    (configs / "metadata.json").touch()
    assert root_of() == str(package.parent)


def root_of() -> str:
    """What a configuration that belongs to no workflow has for its bundle's folder."""
    return ConfigParser({"bundle_root": ROOT, "imports": IMPORTS}).get_parsed_content("bundle_root")


def test_bundle_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert root_of() == str(BUNDLES / "phase2")


@pytest.mark.parametrize(
    "read", [lambda flow: flow.bundle_root, lambda flow: flow.parser.get_parsed_content("bundle_root")]
)
def test_a_configuration_is_of_the_bundle_that_it_lies_in(read, tmp_path, monkeypatch):
    """Whatever the command line says: it may be another program's."""
    for name in ("one", "two"):
        (tmp_path / name / "configs").mkdir(parents=True)
        (tmp_path / name / "configs" / "metadata.json").write_text("{}")
        (tmp_path / name / "configs" / "train.json").write_text(json.dumps({"bundle_root": ROOT, "imports": IMPORTS}))
    monkeypatch.setattr("sys.argv", ["run", "--config_file", str(tmp_path / "two" / "configs" / "train.json")])
    flows = [ConfigWorkflow(str(tmp_path / name / "configs" / "train.json")) for name in ("one", "two")]
    for flow in flows:
        flow.initialize()
    assert [read(flow) for flow in flows] == [str(tmp_path / "one"), str(tmp_path / "two")]


def test_other_code_than_the_bundles_own_is_refused(package, tmp_path):
    bundle = tmp_path / "exported"
    for folder in (package, bundle / "ultrarefiner_monai"):
        folder.mkdir(parents=True)
        (folder / "masks.py").write_text("THRESHOLD = 0.5")
    paths.check_code(str(bundle))
    paths.check_code(str(tmp_path / "here"))
    (package / "masks.py").write_text("THRESHOLD = 0.6")
    with pytest.raises(
        DataError, match=r"has imported another ultrarefiner_monai, of .*place, whose masks\.py is not the"
    ):
        paths.check_code(str(bundle))
    paths.check_code(str(package.parent))


def test_manifests_are_the_bundles_own(package, tmp_path):
    bundle = tmp_path / "exported"
    assert paths.manifests_of(str(bundle)) == shipped("data_manifests")
    own = bundle / "ultrarefiner_monai" / "_shipped" / "data_manifests"
    own.mkdir(parents=True)
    assert paths.manifests_of(str(bundle)) == own
