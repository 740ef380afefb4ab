"""Every way to a model's mask leaves out the parts that its card says."""

import base64
import json
import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from ultrarefiner_monai import load
from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.mlflow.model import SegmentationModel
from ultrarefiner_monai.deploy.model_card import describe
from ultrarefiner_monai.deploy.monailabel.parts import MaskForClientd, islands_of
from ultrarefiner_monai.deploy.predict import Outputs, predict
from ultrarefiner_monai.masks import without_islands
from ultrarefiner_monai.models import Ensemble


@pytest.fixture
def model(make_model):
    """A model with random weights, whose card leaves the foremost part alone."""
    path, _ = make_model("phase1")
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), "islands": 1.0}))
    return path


@pytest.fixture
def threshold(model, picture):
    """One that parts the mask."""
    return round(float(np.quantile(Ensemble(model)(read_grey(picture)).probability, 0.8)), 3)


@pytest.fixture
def expected(model, picture, threshold):
    probability = Ensemble(model)(read_grey(picture)).probability
    mask = without_islands(probability, 1.0, threshold) >= threshold
    assert 0 < mask.sum() < (probability >= threshold).sum()
    return mask


def test_predict_and_python(model, picture, threshold, expected, tmp_path):
    (row,) = predict(picture, model, Outputs(tmp_path / "out", threshold=threshold, probability=True)).rows
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / row["mask"])) > 0, expected)
    assert (row["components"], row["area_px"]) == (1, expected.sum())
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["islands"] == 1.0
    np.testing.assert_array_equal(load(model)(picture, threshold), expected)


def test_a_model_in_mlflow(model, picture, threshold, expected):
    logged = SegmentationModel()
    logged.load_context(SimpleNamespace(artifacts={"weights": str(model)}, model_config={"amp": True}))
    table = pd.DataFrame({"image": [base64.b64encode(picture.read_bytes()).decode()]})
    (answer,) = logged.predict(None, table, {"threshold": threshold}).to_dict("records")
    assert answer["lesion_pixels"] == expected.sum()


def test_a_bundle_that_predicts_pictures(model, picture, predicted_by_bundle):
    probability = Ensemble(model)(read_grey(picture)).probability
    expected = without_islands(probability, 1.0) >= 0.5
    np.testing.assert_array_equal(predicted_by_bundle("phase1", model, picture), expected)


def test_a_client_of_the_label_server(model, tmp_path):
    shutil.copytree(model.parent, tmp_path / "served" / "models")
    islands = islands_of(tmp_path / "served")
    logits = torch.full((1, 32, 32), -3.0)
    logits[0, 2:12, 2:12], logits[0, 20:24, 20:24] = 3.0, 3.0
    image = MetaTensor(torch.zeros(1, 32, 32), meta={"spatial_shape": (32, 32)})
    plain = {"image": image.clone(), "pred": logits}
    asked = {"image": image.clone(), "pred": logits, "used": "click"}
    of_plain, of_asked = (MaskForClientd("pred", ("coarse",), islands=islands)(one) for one in (plain, asked))
    assert (islands, of_plain["pred"].sum(), of_asked["pred"].sum()) == (1.0, 100, 116)
    assert of_plain["result"]["lesion_pixels"] == 100


def test_the_card_says_so_in_words_and_one_without_leaves_all_parts(model, picture, threshold):
    assert "below 100 % of that of the foremost part" in describe(model)["prediction"]["islands"]
    card = model.with_suffix(".json")
    card.write_text(json.dumps({key: value for key, value in json.loads(card.read_text()).items() if key != "islands"}))
    found = load(model).predict(picture, threshold)
    np.testing.assert_array_equal(found.mask, found.probability >= np.float32(threshold))
    assert "islands" not in describe(model)["prediction"]


def test_slices_of_a_volume_keep_all_their_parts(model, threshold, tmp_path):
    """As in a training on volumes, whatever pictures the model has learned from."""
    voxels = np.random.default_rng(0).uniform(0, 255, (40, 48, 3)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "volume.nii.gz")
    found = load(model).predict(tmp_path / "volume.nii.gz", threshold)
    np.testing.assert_array_equal(found.mask, found.probability >= np.float32(threshold))
    assert (without_islands(found.probability, 1.0, threshold) >= threshold).sum() < found.mask.sum()
    predict(tmp_path / "volume.nii.gz", model, Outputs(tmp_path / "out", threshold=threshold))
    mask = np.asarray(nibabel.load(tmp_path / "out/masks/volume.nii.gz").dataobj)
    assert mask.sum() == found.mask.sum() > 0
