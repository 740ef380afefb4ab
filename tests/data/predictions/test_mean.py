"""The mean of several models' maps, and folders that have none."""

import numpy as np
import pytest
from made_predictions import HEIGHT, WIDTH, predict

from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map, write_map
from ultrarefiner_monai.data.predictions.mean import mean_of_maps
from ultrarefiner_monai.data.predictions.pairing import pair_predictions
from ultrarefiner_monai.errors import DataError


def test_the_ensemble_averages_probabilities_and_serves_test_items(manifest, tmp_path):
    folders = [tmp_path / str(fold) for fold in range(5)]
    for fold, folder in enumerate(folders):
        predict(folder, manifest.testing, fold, value=fold / 8, split="test", model_sha256=str(fold) * 64)
    mean = mean_of_maps(folders, tmp_path / "mean")
    assert mean.fold is None
    assert mean.split == "test"
    paired = pair_predictions(manifest.testing, [tmp_path / "mean"], manifest)
    assert np.array_equal(read_map(paired[0]["coarse"]), np.full((HEIGHT, WIDTH), 0.25, np.float32))
    assert PredictionIndex.load(tmp_path / "mean").items[0]["dice"] is None
    with pytest.raises(DataError, match="wrong fold 2"):  # one model alone is not the ensemble
        pair_predictions(manifest.testing, folders[:1], manifest)


def test_the_ensemble_does_not_depend_on_the_order_of_its_folders(manifest, tmp_path):
    folders = [tmp_path / str(fold) for fold in range(2)]
    for fold, folder in enumerate(folders):
        predict(folder, manifest.testing, fold, value=0.1 + 0.7 * fold, model_sha256=str(fold) * 64)
    forward, backward = (mean_of_maps(order, tmp_path / "out") for order in (folders, folders[::-1]))
    assert forward.model_sha256 == backward.model_sha256


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"items": 1}, "not predicted once by each of the 2 models: bus_11"),
        ({"fold": 0}, "each fold's model counts once"),
        ({"manifest_sha256": "c" * 64}, "different datasets, stages, splits, manifests or prompts"),
        ({"split": "val"}, "different datasets, stages, splits, manifests or prompts"),
        ({"prompts": "truth_box"}, "different datasets, stages, splits, manifests or prompts"),
    ],
)
def test_folders_that_are_no_ensemble_are_refused(manifest, tmp_path, second, message):
    options = {"fold": 1, "split": "test", **second}
    predict(tmp_path / "0", manifest.testing, 0, split="test")
    predict(tmp_path / "1", manifest.testing[: options.pop("items", 2)], **options)
    with pytest.raises(DataError, match=message):
        mean_of_maps([tmp_path / "0", tmp_path / "1"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_maps_of_different_sizes_are_not_averaged(manifest, tmp_path):
    for fold in (0, 1):
        predict(tmp_path / str(fold), manifest.testing, fold, split="test")
    write_map(tmp_path / "1/Images/bus_10.nii.gz", np.zeros((3, 3)))
    with pytest.raises(DataError, match="differ in size"):
        mean_of_maps([tmp_path / "0", tmp_path / "1"], tmp_path / "mean")
