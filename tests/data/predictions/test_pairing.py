"""Each image is paired with the one map that may stand for it, or told why there is none."""

from pathlib import Path

import numpy as np
import pytest
from made_predictions import HEIGHT, MODEL, WIDTH, predict

from ultrarefiner_monai.data.manifests.manifest import Manifest
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map, write_map
from ultrarefiner_monai.data.predictions.pairing import pair_predictions
from ultrarefiner_monai.errors import DataError


@pytest.fixture
def folders(manifest, tmp_path) -> list[Path]:
    for fold in (0, 1):
        predict(tmp_path / f"fold{fold}", manifest.split("val", fold), fold)
    return [tmp_path / "fold0", tmp_path / "fold1"]


def test_every_training_item_gets_the_map_of_its_own_fold(manifest, folders):
    paired = pair_predictions(manifest.training, folders, manifest)
    assert [entry["id"] for entry in paired] == [entry["id"] for entry in manifest.training]
    for entry in paired:
        assert Path(entry["coarse"]) == folders[entry["fold"]] / f"Images/{entry['id']}.nii.gz"
        assert read_map(entry["coarse"]).shape == (HEIGHT, WIDTH)
    assert "coarse" not in manifest.training[0]


def test_a_part_of_the_items_can_be_paired(manifest, folders):
    assert len(pair_predictions(manifest.split("train", 0), folders, manifest)) == 3


def refusal(manifest: Manifest, folders: list[Path], **options) -> str:
    with pytest.raises(DataError) as caught:
        pair_predictions(manifest.training, folders, manifest, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_entries_and_files_are_listed(manifest, folders):
    predict(folders[0], manifest.split("val", 0)[:1], 0)
    (folders[1] / "Images/bus_3.nii.gz").unlink()
    assert "missing 3 (bus_2, bus_3, bus_4)" in refusal(manifest, folders)


def test_a_prediction_listed_twice_is_listed(manifest, folders, tmp_path):
    predict(tmp_path / "again", manifest.split("val", 1)[:2], 1)
    assert "doubled 2 (bus_1, bus_3)" in refusal(manifest, [*folders, tmp_path / "again"])


def test_predictions_made_from_another_manifest_are_stale(manifest, folders):
    predict(folders[1], manifest.split("val", 1), 1, manifest_sha256="c" * 64)
    assert "stale 3 (bus_1, bus_3, bus_5)" in refusal(manifest, folders)


def test_predictions_of_another_model_are_stale(manifest, folders):
    assert pair_predictions(manifest.training, folders, manifest, models={0: MODEL, 1: MODEL})
    assert "stale 3 (bus_0, bus_2, bus_4)" in refusal(manifest, folders, models={0: "d" * 64})


def test_the_model_that_trained_on_an_image_may_not_predict_it(manifest, tmp_path):
    predict(tmp_path, manifest.training, 0)
    assert "wrong fold 3 (bus_1, bus_3, bus_5)" in refusal(manifest, [tmp_path])


def test_the_mean_of_all_models_may_not_stand_for_a_training_image(manifest, tmp_path):
    predict(tmp_path, manifest.training, None)
    assert "wrong fold 6" in refusal(manifest, [tmp_path])


def test_wrong_sized_maps_are_listed_whatever_the_index_says(manifest, folders):
    write_map(folders[0] / "Images/bus_2.nii.gz", np.zeros((WIDTH, HEIGHT)))  # transposed
    index = PredictionIndex.load(folders[1])
    index.items[0]["width"] += 1
    index.write(folders[1])
    assert "wrong-sized 2 (bus_1, bus_2)" in refusal(manifest, folders)


def test_broken_files_are_listed(manifest, folders):
    (folders[0] / "Images/bus_4.nii.gz").write_bytes(b"not a map")
    assert "unreadable 1 (bus_4)" in refusal(manifest, folders)


def test_all_faults_come_in_one_error(manifest, folders):
    (folders[0] / "Images/bus_0.nii.gz").unlink()
    (folders[0] / "Images/bus_2.nii.gz").write_bytes(b"")
    predict(folders[1], manifest.split("val", 1), 1, manifest_sha256="c" * 64)
    message = refusal(manifest, folders)
    assert "BUSBRA" in message
    assert all(part in message for part in ("missing 1 (bus_0)", "unreadable 1 (bus_2)", "stale 3"))
