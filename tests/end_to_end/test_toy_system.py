"""A system is one network, one bundle and one line in a registry: a toy goes through everything that UltraRefiner does."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_system
from monai.bundle import ConfigWorkflow
from PIL import Image

from ultrarefiner_monai.cross_validation.conduct import conduct
from ultrarefiner_monai.cross_validation.scores import markdown
from ultrarefiner_monai.cross_validation.tasks import CrossValidation, run_bundle
from ultrarefiner_monai.deploy.export import export_bundle, export_onnx, export_safetensors, export_torchscript
from ultrarefiner_monai.deploy.mlflow.model import encode_png, save
from ultrarefiner_monai.deploy.monailabel import parts
from ultrarefiner_monai.deploy.monailabel.export import APP, export_monailabel
from ultrarefiner_monai.deploy.predict import Outputs, predict
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.reports.compare import compare
from ultrarefiner_monai.reports.report import report
from ultrarefiner_monai.systems import SYSTEMS, find_system


@pytest.fixture(scope="module")
def toy(small_release, tmp_path_factory):
    """A complete cross-validation of the toy: two folds, its table."""
    root = tmp_path_factory.mktemp("toy")
    toy_system.write_bundle(root / "bundles" / "toy")
    stage = dataclasses.replace(toy_system.SYSTEM.stages[0], bundle=str(root / "bundles" / "toy"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_system, "SYSTEM", dataclasses.replace(toy_system.SYSTEM, stages=(stage,)))
        patch.setitem(SYSTEMS, "toy", "toy_system")
        shared = {"manifest": small_release["manifest"], "tracking_uri": f"sqlite:///{root / 'mlruns.db'}"}
        settings = {"threshold": {"epochs": 1, "batch_size": 4, "islands": 0}}  # by hand, each pixel by itself
        cv = CrossValidation(
            "PHANTOM", small_release["data_root"], root / "out", None, shared, settings, system=find_system("toy")
        )
        (lines,) = conduct([cv])
        cv.table = markdown(lines)
        yield cv


@pytest.fixture
def model(toy) -> Path:
    return toy.folder("threshold", 0) / "model.pt"


@pytest.fixture
def image(toy) -> Path:
    return Path(toy.data_root, toy.manifest.testing[0]["image"])


@pytest.fixture
def expected(model, image) -> np.ndarray:
    """Pixels below the learnt level at the network's size, by hand, for an image that needs no letterbox to compare."""
    return load_segmenter(model, amp=False, device="cpu")(np.asarray(Image.open(image).convert("L"), np.float32) / 255)


def test_its_table_has_its_own_output(toy):
    head = toy.table.splitlines()[0]
    assert "mask_dice" in head and "coarse" not in head and "delta" not in head
    assert json.loads((toy.out / "system.json").read_text()) == {"system": "toy"}
    card = json.loads((toy.folder("threshold", 1) / "model.json").read_text())
    assert (card["system"], card["stage"], card["outputs"]) == ("toy", "threshold", ["mask"]) and "phase" not in card
    assert card["metric"].keys() == {"mask_dice"}


def test_the_level_is_learnt(model):
    assert torch.load(model)["level"] != 0.2


def test_its_folder_is_not_taken_for_another_system(toy):
    other = CrossValidation(toy.dataset, toy.data_root, toy.out, shared=toy.shared)
    with pytest.raises(DataError, match="holds a cross-validation of toy, asked for ultrarefiner"):
        other.check()


def test_evaluate_scores_the_test_split(toy, model):
    keys = {"dataset": "PHANTOM", "data_root": toy.data_root, **toy.shared, "output_dir": str(model.parent)}
    stage = toy.system.stages[0]
    metrics = run_bundle(stage.bundle, "evaluate", **keys).evaluator.state.metrics
    assert "mask_dice" in metrics and "coarse_dice" not in metrics


def test_predict(model, image, expected, tmp_path):
    summary = predict(image, model, Outputs(tmp_path), amp=False)
    mask = np.asarray(Image.open(tmp_path / summary.rows[0]["mask"]))
    assert (mask > 0).tolist() == (expected >= 0.5).tolist() and 0 < (mask > 0).mean() < 1


def test_each_export_is_made_and_checked(model, tmp_path):
    assert export_safetensors(model, tmp_path / "safetensors")
    for kind, export in (("ts", export_torchscript), ("onnx", export_onnx)):
        files = export(model, tmp_path / kind)
        assert {file.name for file in files} >= {f"model.{kind}"}


def test_an_exported_bundle_predicts_the_same(toy, model, image, expected, tmp_path):
    folder = export_bundle(model, tmp_path / "exported")
    keys = {"images": str(image), "predictions_dir": str(tmp_path / "masks"), "amp": False}
    run = ConfigWorkflow(
        str(folder / "configs" / "inference.json"), workflow_type="infer", bundle_root=str(folder), **keys
    )
    run.initialize()
    run.run()
    mask = np.asarray(Image.open(tmp_path / "masks" / f"{image.stem}.png")) > 0
    assert (mask == (expected >= 0.5)).all()


def test_monai_label_serves_it(model, image, expected, tmp_path):
    export_monailabel(model, tmp_path)
    bundle = tmp_path / APP / "model" / "threshold"
    assert parts.options_of(parts.card_of(bundle)) == {"threshold": 0.5}
    seen = parts.preprocessing(bundle)({"image": str(image)})["image"]
    assert seen.shape == (1, toy_system.SIZE, toy_system.SIZE)
    probability = parts.predict_file(bundle, image)
    assert np.abs(probability - expected).max() < 0.05  # bf16, where the processor computes in it


def test_mlflow_serves_it(model, image, expected, tmp_path):
    import mlflow
    import pandas as pd

    save(model, tmp_path / "model", amp=False)
    grey = np.asarray(Image.open(image).convert("L"))
    answer = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(pd.DataFrame({"image": [encode_png(grey)]}))
    assert answer["lesion_pixels"][0] == (expected >= 0.5).sum()


def test_report_and_compare_name_its_output(toy, small_cv, tmp_path):
    page = report(toy.out, tmp_path / "report.html", data_root=toy.data_root).read_text()
    assert "mask" in page and "refined" not in page
    document = json.loads(report(toy.out, tmp_path / "report.json", "json", toy.data_root).read_text())
    assert {line["metric"] for part in document["results"] for line in part["metrics"]} >= {"dice", "hd95"}
    differences = compare(small_cv.out, toy.out)["differences"]
    assert {line["stages"] for line in differences} >= {"refined and mask"}
