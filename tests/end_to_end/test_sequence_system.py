"""A system that sees sequences goes through training, a kill, two processes, evaluation and a cross-validation."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_sequences
from interrupted import losses, same, saved, train
from PIL import Image

from ultrarefiner_monai.cross_validation.conduct import conduct
from ultrarefiner_monai.cross_validation.scores import markdown
from ultrarefiner_monai.cross_validation.tasks import CrossValidation, run_bundle
from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.data.manifests import load_manifest
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.deploy.predict import Outputs, predict
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.networks.letterbox import letterbox, undo_letterbox
from ultrarefiner_monai.reports.report import report
from ultrarefiner_monai.systems import SYSTEMS, find_system

TORCHRUN = """
import sys, toy_sequences
from dataclasses import replace
from ultrarefiner_monai.systems import SYSTEMS
SYSTEMS["toy_sequences"] = "toy_sequences"
stage = replace(toy_sequences.SYSTEM.stages[0], bundle=sys.argv[1])
toy_sequences.SYSTEM = replace(toy_sequences.SYSTEM, stages=(stage,))
from monai.bundle import ConfigWorkflow
import json
workflow = ConfigWorkflow(json.loads(sys.argv[2]), workflow_type="train", **json.loads(sys.argv[3]))
workflow.initialize()
workflow.run()
print("SEEN", json.dumps(sorted({item["sequence"] for batch in workflow.parser.get_parsed_content("train#sampler")
    for item in (workflow.parser.get_parsed_content("train#dataset").data[index] for index in batch)})))
workflow.finalize()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences") / "bundles" / "toy_sequences"
    toy_sequences.write_bundle(folder)
    stage = dataclasses.replace(toy_sequences.SYSTEM.stages[0], bundle=str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_sequences, "SYSTEM", dataclasses.replace(toy_sequences.SYSTEM, stages=(stage,)))
        patch.setitem(SYSTEMS, "toy_sequences", "toy_sequences")
        yield folder


@pytest.fixture(scope="module")
def keys(small_patients, bundle):
    return {**small_patients, "batch_size": 2, "tracking_uri": f"sqlite:///{bundle}/m.db", "amp": False}


@pytest.fixture(scope="module")
def cv(bundle, small_patients, keys):
    """Two folds and the table, patients as sequences with their normals."""
    shared = {key: keys[key] for key in ("manifest", "tracking_uri", "amp")}
    settings = {"remembering": {"epochs": 1, "batch_size": 2, "log_model": False}}
    system = find_system("toy_sequences")
    made = CrossValidation(
        "BUS_UCLM", small_patients["data_root"], bundle / "out", None, shared, settings, system=system
    )
    (lines,) = conduct([made])
    made.table = markdown(lines)
    return made


def expected_maps(cv, split, fold, model):
    """By id, the probabilities that a patient's frames have together, by hand."""
    network = load_segmenter(model, amp=False, device="cpu").network
    manifest = cv.manifest
    place = fold if split == "val" else None
    items = [*manifest.split(split, fold), *(item for item in manifest.normal if item.get("fold") == place)]
    lesions = {item["patient"] for item in manifest.split(split, fold)}
    found = {}
    for patient in lesions:
        frames = sorted(
            (item for item in items if item["patient"] == patient), key=lambda item: int(item["id"].split("_")[1])
        )
        assert len(frames) == 5
        images = [read_grey(Path(cv.data_root, item["image"]), size=(item["width"], item["height"])) for item in frames]
        squares = torch.stack([letterbox(torch.from_numpy(image)[None], toy_sequences.SIZE) for image in images])
        with torch.no_grad():
            logits = network(squares, torch.zeros(len(frames), dtype=torch.int64), torch.arange(len(frames)))
        for item, image, logit in zip(frames, images, logits, strict=True):
            found[item["id"]] = undo_letterbox(logit.sigmoid(), image.shape)[0].numpy()
    return found


@pytest.mark.parametrize("fold", [0, 1])
def test_maps_are_those_of_whole_sequences_under_the_images_names(cv, fold):
    maps = cv.maps("remembering", fold, "mask")
    index = {entry["id"]: entry["file"] for entry in json.loads((maps / "predictions.json").read_text())["items"]}
    expected = expected_maps(cv, "val", fold, cv.folder("remembering", fold) / "model.pt")
    assert index.keys() == expected.keys() >= {item["id"] for item in cv.manifest.split("val", fold)}
    for name, probability in expected.items():
        assert np.abs(read_map(maps / index[name]) - probability).max() < 0.01  # maps have 8 bits or 16


def test_the_table_has_the_images_that_other_systems_have(cv, tmp_path):
    rows = list(csv.DictReader((cv.out / "per_image.csv").open()))
    assert sorted(row["id"] for row in rows) == sorted(i["id"] for i in [*cv.manifest.training, *cv.manifest.testing])
    document = json.loads(report(cv.out, tmp_path / "report.json", "json", cv.data_root).read_text())
    assert "do not belong there" not in json.dumps(document)


def test_evaluation_scores_every_frame(cv, keys):
    folder = cv.folder("remembering", 0)
    run = run_bundle(cv.system.stages[0].bundle, "evaluate", **keys, output_dir=str(folder))
    empty = [item for item in cv.manifest.normal if "fold" not in item]
    patients = {item["patient"] for item in cv.manifest.testing}
    expected = [i["id"] for i in (*cv.manifest.testing, *(i for i in empty if i["patient"] in patients))]
    rows = list(csv.DictReader((folder / "test" / "per_image.csv").open()))
    assert sorted(row["id"] for row in rows) == sorted(expected) and len(rows) == 5 * len(patients)
    metrics = run.evaluator.state.metrics
    assert metrics["mask_dice"] > 0.5 and "mask_false_positive_rate" in metrics


def test_a_picture_is_a_sequence_of_one_frame_in_predict_and_in_the_bundle(cv, keys, tmp_path):
    picture = Path(cv.data_root, cv.manifest.testing[0]["image"])
    model = cv.folder("remembering", 0) / "model.pt"
    predict(picture, model, Outputs(tmp_path / "predict"), amp=False)
    own = {"images": str(picture), "checkpoint": str(model), "predictions_dir": str(tmp_path / "masks"), "amp": False}
    run_bundle(cv.system.stages[0].bundle, "inference", **own)
    grey = np.asarray(Image.open(picture).convert("L"), np.float32) / 255
    expected = load_segmenter(model, amp=False, device="cpu")(grey) >= 0.5
    for file in (tmp_path / "predict" / "masks" / picture.name, tmp_path / "masks" / f"{picture.stem}.png"):
        assert ((np.asarray(Image.open(file)) > 0) == expected).all()


def test_a_killed_training_goes_on_bit_equal(keys, tmp_path):
    keys = {**keys, "epochs": 2, "checkpoint_interval": 1, "log_model": False}
    whole, cut = ({**keys, "output_dir": str(tmp_path / name)} for name in ("whole", "cut"))
    assert train("remembering", tmp_path / "whole.trace", **whole) == 0
    assert train("remembering", tmp_path / "cut.trace", ("kill", 1), **cut) == -9
    assert train("remembering", tmp_path / "cut.trace", **cut, resume=True) == 0
    assert (
        losses(tmp_path / "cut.trace") == losses(tmp_path / "whole.trace") and len(losses(tmp_path / "cut.trace")) > 2
    )
    assert same(saved(tmp_path / "cut")["network"], saved(tmp_path / "whole")["network"])


def test_two_processes_have_their_own_sequences(keys, bundle, tmp_path):
    (tmp_path / "run.py").write_text(TORCHRUN)
    configs = [str(bundle / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train")]
    own = {**keys, "epochs": 1, "output_dir": str(tmp_path / "out"), "log_model": False}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(tmp_path / "run.py"), str(bundle), json.dumps(configs), json.dumps(own)]
    path = os.pathsep.join([str(Path(toy_sequences.__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (set(json.loads(line[5:])) for line in done.stdout.splitlines() if line.startswith("SEEN "))
    manifest = load_manifest(keys["manifest"])
    assert first | second == {item["patient"] for item in manifest.split("train", 0)} and not first & second
    rows = list(csv.DictReader((tmp_path / "out" / "per_image.csv").open()))
    assert {row["id"] for row in rows} >= {item["id"] for item in manifest.split("val", 0)}
