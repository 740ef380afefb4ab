"""Faulty files are found before a run, and left out only where the user says so."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from ultrarefiner_monai.bundle.preflight.data import default_place, sound_items, write_excluded
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.data.releases.readers import find_root
from ultrarefiner_monai.errors import DataError


@pytest.fixture
def pair(small_pair, tmp_path):
    """Manifest and root of a copy of the pair."""
    shutil.copytree(small_pair["data_root"], tmp_path / "data")
    return load_manifest(small_pair["manifest"]), find_root(small_pair["dataset"], tmp_path / "data")


def test_a_sound_release_is_taken_whole(pair, caplog):
    manifest, root = pair
    assert sound_items(manifest, root, skip_bad=True) == (manifest, [])
    assert not caplog.records


def test_faulty_items_of_every_list_are_left_out_with_their_reasons(pair, caplog):
    manifest, root = pair
    trained, tested, normal = manifest.training[0], manifest.testing[0], manifest.normal[0]
    for item in (trained, tested, normal):
        name, path = item["image"].split("/", 1)
        (root[name] / path).write_bytes(b"")
    (root["BUSI"] / normal["label"].removeprefix("BUSI/")).unlink()
    with pytest.raises(DataError, match="or leave these items out with --skip_bad true"):
        sound_items(manifest, root)
    kept, excluded = sound_items(manifest, root, skip_bad=True)
    assert [item["id"] for item in manifest.items() if item not in kept.items()] == [e["id"] for e in excluded]
    assert [entry["id"] for entry in excluded] == [trained["id"], tested["id"], normal["id"]]
    assert len(excluded[0]["reasons"]) == 1 and trained["image"] in excluded[0]["reasons"][0]
    assert len(excluded[2]["reasons"]) == 2 and "missing" in excluded[2]["reasons"][1]
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"left out: {'; '.join(entry['reasons'])}" for entry in excluded]


def test_many_faults_are_counted(pair, caplog):
    manifest, root = pair
    shutil.rmtree(root["BUSI"] / "normal")
    (root["BUSI"] / "normal").mkdir()
    _, excluded = sound_items(manifest, root, skip_bad=True)
    assert len(excluded) == 8
    assert [record.message for record in caplog.records][5:] == ["left out: 3 more items, see excluded.json"]


def test_a_group_in_two_folds_is_refused_whatever_is_skipped(small_pair, tmp_path):
    """A manifest with such a fault does not load, so that no option can let it pass."""
    document = json.loads(Path(small_pair["manifest"]).read_text(encoding="utf-8"))
    for fold in (0, 1):
        next(item for item in document["training"] if item["fold"] == fold)["group"] = "one"
    (tmp_path / "unsafe.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match="group 'one' is in fold 0 and fold 1"):
        load_manifest(tmp_path / "unsafe.json")


def test_a_repaired_release_leaves_no_old_list_behind(tmp_path):
    write_excluded([{"id": "a", "reasons": ["b"]}], tmp_path)
    assert json.loads((tmp_path / "excluded.json").read_text()) == [{"id": "a", "reasons": ["b"]}]
    write_excluded([], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_combined_data_set_needs_the_folders_of_all_its_parts(tmp_path):
    (tmp_path / "data" / "BUSI").mkdir(parents=True)
    assert default_place(tmp_path, "BUSI") == tmp_path / "data" / "BUSI"
    assert default_place(tmp_path, "BUSI+BUS") is None
    (tmp_path / "data" / "BUS").mkdir()
    assert default_place(tmp_path, "BUSI+BUS") == tmp_path / "data"
