"""A model with a spacing sees millimetres in as many pixels whatever the scanner, and answers on its file's grid."""

import base64
import json
import math
import shutil
from io import BytesIO
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
from made_volumes import SHAPE, SPACING, affine, stored
from mlflow.exceptions import MlflowException
from PIL import Image
from untrained import SIZE, save_untrained

from ultrarefiner_monai import load
from ultrarefiner_monai.deploy.images.volume import VolumeFile
from ultrarefiner_monai.deploy.mlflow.model import SegmentationModel, example_of, signature_of
from ultrarefiner_monai.deploy.model_card import describe
from ultrarefiner_monai.deploy.monailabel.parts import preprocessing
from ultrarefiner_monai.deploy.monailabel.training import check_labels_suffice
from ultrarefiner_monai.deploy.monailabel.volumes import segment_volume, volume_uncertainty
from ultrarefiner_monai.deploy.predict import Outputs, predict
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models import Ensemble, load_segmenter
from ultrarefiner_monai.networks.rfmedsam2.unet import FrameUnet
from ultrarefiner_monai.systems import find_stage

RADIUS = 12  # mm
SEEN = 2  # mm a pixel: the ball is 24 mm / 2 mm = 12 pixels wide, its middle slice pi * 6 ** 2 = 113 pixels


def ball(shape, spacing):
    """A bright ball in the middle of a grid (x, y, z)."""
    places = [(np.arange(count) - (count - 1) / 2) * side for count, side in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*places, indexing="ij")
    return x**2 + y**2 + z**2 <= RADIUS**2


def write(path, shape, spacing, turn="RAS"):
    """A file of a ball, oblique and with its axes turned; the ball, in RAS+ order."""
    place = affine()
    place[:3, :3] = affine()[:3, :3] @ np.diag(np.divide(spacing, SPACING))
    nibabel.save(stored(100 * ball(shape, spacing).astype(np.int16), turn, place), path)
    return ball(shape, spacing)


@pytest.fixture
def seen(monkeypatch):
    """What the network is shown; bright is its lesion."""
    shown = []

    def segment(self, image, *_):
        shown.append(image)
        return (20 * image - 10).float(), ()

    monkeypatch.setattr(FrameUnet, "segment", segment)
    return shown


def saved(folder, spacing=None, stage="unet"):
    path, _ = save_untrained(folder / "model.pt", stage)
    if spacing is not None:
        card = json.loads(path.with_suffix(".json").read_text())
        card["network"]["unet"]["spacing"] = spacing
        path.with_suffix(".json").write_text(json.dumps(card))
    return path


@pytest.fixture
def model(tmp_path):
    return saved(tmp_path / "model", SEEN)


def middle(volume, model, seen):
    """The middle slice as the network is shown it, and the maps of all slices."""
    seen.clear()
    source = VolumeFile(volume)
    maps = [found.probability for found in Ensemble(model, amp=False).predict_volume(source.frames(), source.spacing)]
    return seen[len(seen) // 2][0, 0].numpy(), maps


@pytest.mark.parametrize(
    ("shape", "spacing"), [(SHAPE, SPACING), ((60, 60, 12), (1.0, 1.0, 4.0)), ((30, 70, 12), (2.5, 0.8, 4.0))]
)
def test_a_ball_has_its_millimetres_in_pixels_whatever_the_scanner(shape, spacing, model, seen, tmp_path):
    """The middle slices lie 2 mm off the ball's middle: a radius of sqrt(12 ** 2 - 2 ** 2) = 11.8 mm or 5.9 pixels."""
    truth = write(tmp_path / "a.nii.gz", shape, spacing, "LPS")
    square, maps = middle(tmp_path / "a.nii.gz", model, seen)
    inside = square >= 0.5
    sides = [round(shape[1] * spacing[1] / SEEN), round(shape[0] * spacing[0] / SEEN)]
    assert square.shape == (SIZE, SIZE) and not square[sides[0] :].any() and not square[:, sides[1] :].any()
    assert inside.sum() == pytest.approx(math.pi * (RADIUS**2 - 2**2) / SEEN**2, abs=6)
    assert abs(inside.any(0).sum() - 12) <= 1 and abs(inside.any(1).sum() - 12) <= 1
    found = np.stack(maps, 2).transpose(1, 0, 2) >= 0.5
    assert found.shape == truth.shape
    assert (
        2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.93
    )  # through pixels of up to 2.5 times the file's


def test_without_a_spacing_the_long_side_fills_the_square_as_before(seen, tmp_path):
    """Cards from before there was one have none. Of 48 x 40 pixels 64 / 48 are made, which have no millimetres."""
    write(tmp_path / "a.nii.gz", SHAPE, SPACING)
    path = saved(tmp_path / "model")
    card = json.loads(path.with_suffix(".json").read_text())
    del card["network"]["unet"]["spacing"]
    path.with_suffix(".json").write_text(json.dumps(card))
    assert load_segmenter(path).spacing is None
    square, _ = middle(tmp_path / "a.nii.gz", path, seen)
    inside = square >= 0.5
    assert abs(inside.any(0).sum() - 2 * 11.8 / 1.5 * 64 / 48) <= 1.5
    assert abs(inside.any(1).sum() - 2 * 11.8 / 1.2 * 64 / 48) <= 1.5


def test_a_mask_has_the_grid_of_its_file(model, seen, tmp_path):
    truth = write(tmp_path / "a.nii.gz", SHAPE, SPACING, "SRA")
    summary = predict(tmp_path / "a.nii.gz", model, Outputs(tmp_path / "out"))
    source, mask = nibabel.load(tmp_path / "a.nii.gz"), nibabel.load(tmp_path / "out/masks/a.nii.gz")
    assert mask.shape == source.shape and summary.exit_code == 0
    np.testing.assert_array_equal(mask.affine, source.affine)
    found = np.asarray(nibabel.as_closest_canonical(mask).dataobj) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.93
    assert json.loads((tmp_path / "out/report.json").read_text())["spacing"] == SEEN


def test_python_and_the_label_server_see_what_predict_sees(model, seen, tmp_path):
    write(tmp_path / "a.nii.gz", SHAPE, SPACING)
    predict(tmp_path / "a.nii.gz", model, Outputs(tmp_path / "out"))
    expected = np.asarray(nibabel.load(tmp_path / "out/masks/a.nii.gz").dataobj)
    mask = load(model)(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(mask.transpose(2, 1, 0), expected > 0)
    bundle = tmp_path / "served"
    shutil.copytree(model.parent, bundle / "models")
    labels, _, _ = segment_volume(bundle, {"image": str(tmp_path / "a.nii.gz")}, describe(model))
    np.testing.assert_array_equal(labels, expected)
    assert 0 <= volume_uncertainty(bundle, tmp_path / "a.nii.gz") < 1


def test_a_slice_as_an_array_is_seen_at_the_spacing_that_is_named(model, seen):
    plane = np.zeros((40, 48), np.float32)
    plane[10:20, 10:30] = 1
    found = load(model, amp=False).predict(plane, spacing=(2.0, 1.0))
    assert seen[-1][0, 0, :40, :24].sum() == pytest.approx(10 * 10, abs=1) and seen[-1].sum() == pytest.approx(
        100, abs=1
    )
    np.testing.assert_array_equal(found.mask, plane > 0)


def test_pixels_of_unknown_size_are_refused_in_one_line(model, seen, picture, tmp_path):
    unknown = "the size of its pixels is not known, and the network sees 2 mm a pixel"
    (failure,) = predict([picture, _small(tmp_path)], model, Outputs(tmp_path / "out")).failures
    assert failure[0] == str(picture) and unknown in failure[1] and "\n" not in failure[1]
    with pytest.raises(DataError, match=unknown):
        load(model)(np.zeros((40, 48), np.float32))
    bundle = tmp_path / "served"
    shutil.copytree(model.parent, bundle / "models")
    with pytest.raises(RuntimeError) as raised:  # MONAI's, of which the server tells the cause
        preprocessing(bundle)({"image": str(picture)})
    assert unknown in str(raised.value.__cause__)
    with pytest.raises(DataError, match="sees 2 mm a pixel, and pictures here do not tell"):
        check_labels_suffice(bundle)


def _small(folder):
    write(folder / "small.nii.gz", (20, 20, 3), SPACING)
    return folder / "small.nii.gz"


def test_a_volume_beyond_the_networks_input_is_refused_and_the_others_predicted(model, seen, tmp_path):
    write(tmp_path / "wide.nii.gz", (87, 40, 3), SPACING)  # 130.5 mm are 65 pixels
    found = predict([tmp_path / "wide.nii.gz", _small(tmp_path)], model, Outputs(tmp_path / "out"))
    ((file, told),) = found.failures
    assert file.endswith("wide.nii.gz") and "65 x 24 pixels at the network's spacing, which sees 64 x 64" in told
    assert len(found.rows) == 3 and (tmp_path / "out/masks/small.nii.gz").is_file()
    assert not (tmp_path / "out/masks/wide.nii.gz").exists()


def test_models_of_several_spacings_are_no_ensemble(model, tmp_path):
    with pytest.raises(DataError, match=r"sees 3 mm a pixel, .* an ensemble needs models of one spacing"):
        Ensemble([model, saved(tmp_path / "other", 3)])


def test_a_model_in_mlflow_wants_the_size_of_pixels(model, seen):
    logged, stage = SegmentationModel(), find_stage("unet")[1]
    logged.load_context(SimpleNamespace(artifacts={"weights": str(model)}, model_config={"amp": False}))
    square = np.zeros((40, 48), np.uint8)
    square[10:20, 10:30] = 255
    buffer = BytesIO()
    Image.fromarray(square).save(buffer, "PNG")
    line = {"image": base64.b64encode(buffer.getvalue()).decode(), "spacing_y_mm": 2.0, "spacing_x_mm": 1.0}
    (answer,) = logged.predict(None, pd.DataFrame([line])).to_dict("records")
    assert answer["lesion_pixels"] == 200 and seen[-1].sum() == pytest.approx(100, abs=1)
    with pytest.raises(MlflowException, match="the size of its pixels is not known"):
        logged.predict(None, pd.DataFrame([{"image": line["image"]}]))
    names = ["image", "spacing_y_mm", "spacing_x_mm"]
    assert signature_of(stage, (), spaced=True).inputs.input_names() == names
    example = example_of(stage, 1.0)
    assert list(example) == names and logged.predict(None, example)["lesion_pixels"][0] >= 0
    assert list(example_of(stage)) == signature_of(stage, ()).inputs.input_names() == ["image"]


@pytest.mark.parametrize("wrong", [0, -1, "2", [1, 2], 1e6])
def test_a_card_with_a_spacing_that_is_none_is_refused(wrong, tmp_path):
    with pytest.raises(DataError, match=r"network\.unet\.spacing.*expected a number of at least 0.001"):
        load_segmenter(saved(tmp_path / "model", wrong))


def test_the_card_says_in_words_how_images_are_resampled(model, tmp_path):
    assert describe(model)["prediction"]["letterbox"].startswith("each axis to 2 mm a pixel")
    assert describe(saved(tmp_path / "other"))["prediction"]["letterbox"].startswith("long side to image_size")
