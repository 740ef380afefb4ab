"""Where phase 2 finds its coarse maps: of the fold that never saw the image, or the mean of all folds."""

import numpy as np
import pytest
from made_predictions import MODEL, predict

from ultrarefiner_monai.data.predictions.coarse_maps import CoarseMaps
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_json


@pytest.fixture
def maps(manifest, tmp_path) -> CoarseMaps:
    for fold in (0, 1):
        predict(tmp_path / f"fold{fold}/predictions", manifest.split("val", fold), fold)
        predict(tmp_path / f"fold{fold}/predictions_test", manifest.testing, fold, fold / 2, split="test")
        write_json(tmp_path / f"fold{fold}/model.json", {"sha256": MODEL})
    return CoarseMaps(tmp_path, manifest)


def test_they_are_there_once_every_fold_has_predicted(maps, manifest):
    assert maps.are_there()
    (maps.folder / "fold1/predictions").rename(maps.folder / "elsewhere")
    assert not maps.are_there()


def test_training_images_get_the_map_of_their_fold(maps, manifest):
    for entry in maps.pair(manifest.training, "train"):
        assert f"fold{entry['fold']}/predictions/" in entry["coarse"]


def test_test_images_get_the_mean_which_is_written_once(maps, manifest):
    first, _ = maps.pair(manifest.testing, "test")
    assert first["coarse"] == str(maps.folder.resolve() / "test/Images/bus_10.nii.gz")
    assert np.unique(read_map(first["coarse"])).tolist() == [0.25]
    index = maps.folder / "test/predictions.json"
    before = index.stat().st_mtime_ns
    maps.pair(manifest.testing, "test")
    assert index.stat().st_mtime_ns == before


def test_maps_of_an_older_model_are_stale(maps, manifest):
    write_json(maps.folder / "fold1/model.json", {"sha256": "c" * 64})
    with pytest.raises(DataError, match=r"stale 3 \(bus_1, bus_3, bus_5\)"):
        maps.pair(manifest.training, "train")


def test_a_broken_card_is_one_line(maps, manifest):
    (maps.folder / "fold1/model.json").write_text("{")
    with pytest.raises(DataError, match=r"model\.json: cannot be read as JSON .*; train this fold again"):
        maps.pair(manifest.training, "train")


def test_normal_images_have_none(maps, manifest):
    with pytest.raises(DataError, match="no coarse maps of normal images"):
        maps.pair(manifest.normal, "normal")
