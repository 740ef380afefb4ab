"""A cross-validation of RFMedSAM 2: the U-Net first, then all three steps from it, their masks, scores and cards."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from made_volumes import make_btcv
from small_releases import TINY_OF_OTHERS, keys_of

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.manifests.manifest import load_manifest, shipped_manifest
from ultrarefiner_monai.data.predictions.index import PredictionIndex
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.deploy.images.volume import VolumeFile
from ultrarefiner_monai.metrics.scores_file import read_rows
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.models.card import read_card
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.systems.keys import configuration

EVALUATED = configuration(find_stage("unet")[1], "train", "unet", "evaluate").keys()
PATIENTS = {"sequence": "patient", "normals": "in_sequence", "frames": 3}


def run(stage, config, keys):
    """A run of those of the keys that its configuration knows."""
    known = configuration(find_stage(stage)[1], *(("train", config) if config == "evaluate" else (config,)))
    own = {"plan#stage": stage} if config == "inference" else {}
    names = find_stage(stage)[1].configs if config == "train" else (config,)
    return run_bundle("rfmedsam2", *names, **{key: keys[key] for key in keys if key in known}, **own)


@pytest.fixture(params=["made", pytest.param("real", marks=pytest.mark.slow), "volumes"])
def trained_on_sequences(request, small_patients, tmp_path, store):
    """Keys of a training of an epoch whose sequences are patients, their normals among them, or volumes."""
    keys = {**small_patients, "batch_size": 2, "amp": False, "tracking_uri": store, "log_model": False, **PATIENTS}
    if request.param == "real":
        root = request.getfixturevalue("shared_data") / "BUS-UCLM" / "BUS-UCLM"
        keys |= {"data_root": str(root), "manifest": None, "allow_missing": True}
    if request.param == "volumes":
        keys |= {**keys_of("BTCV", make_btcv(tmp_path / "BTCV", cases=5)), "sequence": "volume", "normals": "none"}
    run("unet", "train", {**TINY_OF_OTHERS["unet"], **keys, "output_dir": str(tmp_path / "unet")})
    own = {**TINY_OF_OTHERS["joint"], **keys, "output_dir": str(tmp_path / "joint")}
    run("joint", "train", {**own, "unet_checkpoint": str(tmp_path / "unet" / "model.pt")})
    return own


def maps_of(keys, folder, **changes):
    """By image, the probabilities of step 2 for the validation images."""
    asked = {**keys, **changes, "dataset_name": keys["dataset"], "predictions_dir": str(folder), "split": "val"}
    run("joint", "inference", {key: value for key, value in asked.items() if key != "dataset"})
    index = PredictionIndex.load(folder / "step2")
    return {entry["id"]: read_map(folder / "step2" / entry["file"]) for entry in index.items}


def test_pieces_of_a_sequence_change_nothing(trained_on_sequences, tmp_path):
    """Only what is remembered changes a map; those of patients' images without a lesion are there, too."""
    keys = trained_on_sequences
    pieces = maps_of(keys, tmp_path / "pieces", frames=1)
    whole = maps_of(keys, tmp_path / "whole", frames=64)
    alone = maps_of(keys, tmp_path / "alone", sequence=None)
    manifest = load_manifest(keys["manifest"] or shipped_manifest("BUS_UCLM"))
    normals = {item["id"] for item in manifest.normal}
    assert pieces.keys() == whole.keys() >= alone.keys() and pieces.keys() - alone.keys() <= normals
    assert (len(whole) > len(alone)) == (keys["normals"] == "in_sequence")
    changed = max(np.abs(alone[name] - whole[name]).max() for name in alone)
    assert changed > 2e-6  # little: a network of random weights has learnt for an epoch
    assert max(np.abs(pieces[name] - whole[name]).max() for name in whole) < changed / 4
    if keys["sequence"] == "volume":  # and a file by itself is seen as a volume of the data set
        segmenter = load_segmenter(Path(keys["output_dir"]) / "model.pt", amp=False, device="cpu")
        case = [item["id"] for item in manifest.split("val", 0) if item["case"] == manifest.split("val", 0)[0]["case"]]
        source = VolumeFile(Path(keys["data_root"]) / manifest.split("val", 0)[0]["image"])
        found = [one.probability for one in segmenter.predict_volume(source.frames())]
        assert len(found) == len(case)
        assert max(np.abs(mask - whole[name]).max() for name, mask in zip(case, found, strict=True)) < changed / 4


def test_sequences_that_a_data_set_does_not_have_are_refused(small_release, tmp_path):
    keys = {**TINY_OF_OTHERS["unet"], **small_release, "output_dir": str(tmp_path / "out")}
    for kind, said in (
        ("volume", "PHANTOM holds pictures, no slices"),
        ("patients", "expected one of patient, volume"),
    ):
        with pytest.raises(SystemExit, match=said):
            run("unet", "train", {**keys, "sequence": kind})
    with pytest.raises(SystemExit, match="window: expected a whole number of at least 0 and at most 6, found 7"):
        run("unet", "train", {**keys, "window": 7})
    assert not (tmp_path / "out").exists()


def test_three_steps_are_trained_scored_and_predicted(steps_cv):
    cv = steps_cv
    with (cv.folder("joint", 0) / "per_image.csv").open(newline="") as file:
        columns = csv.DictReader(file).fieldnames
    assert {"unet_dice", "step1_dice", "step2_dice"} <= set(columns)
    models = {stage: cv.folder(stage, 0) / "model.pt" for stage in ("unet", "joint")}
    cards = {stage: read_card(path) for stage, path in models.items()}
    assert cards["joint"]["outputs"] == ["unet", "step1", "step2"] and cards["unet"]["outputs"] == ["unet"]
    assert cards["joint"]["network"]["unet"] == cards["unet"]["network"]["unet"]
    for path in models.values():
        segmenter = load_segmenter(path, amp=False, device="cpu")
        assert segmenter.predict(torch.rand(48, 60).numpy()).probability.shape == (48, 60)


def test_true_boxes_have_scores_of_their_own(steps_cv, small_release):
    folder = steps_cv.folder("joint", 0)
    keys = {**steps_cv.settings["joint"], **small_release, "output_dir": str(folder), "overwrite": True}
    keys |= {"tracking_uri": steps_cv.shared["tracking_uri"], "split": "val"}
    automatic, asked = (
        run("joint", "evaluate", keys | {"true_boxes": true})
        .parser.get_parsed_content("validate#evaluator")
        .state.metrics
        for true in (False, True)
    )
    rows = {name: read_rows(folder / name / "per_image.csv") for name in ("val", "val_truth_box")}
    assert {row["prompts"] for row in rows["val_truth_box"]} == {"truth_box"} and "prompts" not in rows["val"][0]
    assert [row["unet_dice"] for row in rows["val"]] == [row["unet_dice"] for row in rows["val_truth_box"]]
    assert [row["step1_dice"] for row in rows["val"]] != [row["step1_dice"] for row in rows["val_truth_box"]]
    assert "ellipse" in asked and "ellipse" not in automatic
    unet = {**keys, **steps_cv.settings["unet"], "output_dir": str(steps_cv.folder("unet", 0)), "true_boxes": True}
    with pytest.raises(SystemExit, match="true_boxes: unet asks nobody with boxes"):
        run_bundle("rfmedsam2", "train", "unet", "evaluate", **{name: unet[name] for name in unet.keys() & EVALUATED})
