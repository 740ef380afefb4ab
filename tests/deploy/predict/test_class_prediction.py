"""The verb `predict` with models that tell classes apart: columns, masks of classes, and what cannot hold them."""

import csv
import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.predict import Outputs, predict
from ultrarefiner_monai.deploy.predict.overlays import OUTLINES
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.classes import class_mask, class_probability
from ultrarefiner_monai.models import Ensemble

PLAIN = (  # the columns of a model that tells no classes apart
    "file,frame,mask,width,height,spacing_x_mm,spacing_y_mm,area_px,area_mm2,components,diameter_px,perpendicular_px,"
    "diameter_mm,perpendicular_mm,mean_probability,max_probability,sam_predicted_iou"
)
VALUES = {"0": "background", "1": "benign", "2": "malignant"}


@pytest.fixture
def model(make_model):
    return make_model("automedsam")[0]


@pytest.fixture
def found(model, picture):
    """The lesion's and the classes' probability of the picture."""
    consensus = Ensemble(model)(read_grey(picture))
    return consensus.probability, np.stack([consensus.classes[name] for name in ("benign", "malignant")])


def pixels(path):
    return np.asarray(Image.open(path))


def table(out):
    return list(csv.DictReader((out / "measures.csv").open()))


def test_the_class_is_in_the_table_and_the_mask_that_of_the_lesion(model, found, picture, tmp_path):
    predict(picture, model, Outputs(tmp_path / "out"))
    lesion, classes = found
    mask = pixels(tmp_path / "out/masks" / f"{picture.stem}.png")
    assert 0 < (lesion >= 0.5).mean() < 1
    np.testing.assert_array_equal(mask, (lesion >= 0.5) * np.uint8(255))
    (row,) = table(tmp_path / "out")
    assert ",".join(row) == f"{PLAIN},class,class_probability"
    expected = class_probability(lesion, classes)
    assert row["class"] == ("benign", "malignant")[expected.argmax()]
    assert float(row["class_probability"]) == pytest.approx(expected.max()) and expected.max() > 0.5
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["pictures"][0]["class"] == row["class"] and "mask_values" not in report


@pytest.mark.parametrize("kind", ["png", "nifti"])
def test_labels_are_the_classes_within_the_lesion(kind, model, found, picture, tmp_path):
    threshold = float(np.quantile(found[0], 0.4))
    outputs = Outputs(tmp_path / "out", kind, threshold, labels=True)
    (row,) = predict(picture, model, outputs).rows
    path = tmp_path / "out" / row["mask"]
    mask = pixels(path) if kind == "png" else np.asarray(nibabel.load(path).dataobj).T
    assert mask.dtype == np.uint8 and np.unique(mask).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(mask, class_mask(*found, threshold))
    assert (mask > 0).sum() == row["area_px"] == (found[0] >= np.float32(threshold)).sum()
    assert json.loads((tmp_path / "out/report.json").read_text())["mask_values"] == VALUES


def test_overlays_of_labels_have_a_colour_a_class(model, found, picture, tmp_path):
    for labels in (False, True):
        predict(picture, model, Outputs(tmp_path / str(labels), overlay=True, labels=labels))
    seen = [
        [
            (pixels(tmp_path / labels / "overlays" / f"{picture.stem}.png") == colour).all(-1).any()
            for colour in OUTLINES
        ]
        for labels in ("False", "True")
    ]
    assert seen == [[True, False, False, False, False], [True, True, False, False, False]]


def test_each_frame_has_its_own_class_and_mask(model, picture, tmp_path):
    grey = pixels(picture) if pixels(picture).ndim == 2 else np.asarray(Image.open(picture).convert("L"))
    frames = [grey, 255 - grey, np.zeros_like(grey)]
    first, *others = map(Image.fromarray, frames)
    first.save(tmp_path / "frames.tif", save_all=True, append_images=others)
    predict(tmp_path / "frames.tif", model, Outputs(tmp_path / "out", labels=True))
    rows = table(tmp_path / "out")
    assert [row["frame"] for row in rows] == ["1", "2", "3"]
    ensemble = Ensemble(model)
    for row, frame in zip(rows, frames, strict=True):
        consensus = ensemble(frame / np.float32(255))
        classes = np.stack(list(consensus.classes.values()))
        np.testing.assert_array_equal(
            pixels(tmp_path / "out" / row["mask"]), class_mask(consensus.probability, classes)
        )
        expected = class_probability(consensus.probability, classes).max()
        assert float(row["class_probability"]) == pytest.approx(expected)


@pytest.mark.parametrize(("stage", "classes"), [("phase1", ""), ("automedsam", "lesion")])
def test_without_classes_the_table_is_as_ever_and_labels_are_refused(stage, classes, make_model, picture, tmp_path):
    model, _ = make_model(stage, classes=classes)
    predict(picture, model, Outputs(tmp_path / "out"))
    assert (tmp_path / "out/measures.csv").read_text().splitlines()[0] == PLAIN
    with pytest.raises(DataError, match=r"^labels: .*model\.pt tells no classes apart; leave --labels out$"):
        predict(picture, model, Outputs(tmp_path / "other", labels=True))
    assert not (tmp_path / "other").exists()


def test_a_dicom_segmentation_holds_no_classes(tmp_path):
    with pytest.raises(
        DataError, match=r"^labels: a DICOM segmentation says lesion alone; take --format png or nifti$"
    ):
        Outputs(tmp_path, "dicom-seg", labels=True)


@pytest.mark.slow
def test_the_command_writes_labels(model, picture, tmp_path):
    command = [sys.executable, "-m", "ultrarefiner_monai", "predict", str(picture), "--model", str(model)]
    command += ["--out", "out", "--labels", "true"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    assert np.unique(pixels(tmp_path / "out/masks" / f"{picture.stem}.png")).tolist() == [0, 1, 2]
