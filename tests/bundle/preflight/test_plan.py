"""What a run is asked for, and what becomes of it."""

import dataclasses
import json
import shutil

import pytest
from PIL import Image

from ultrarefiner_monai.bundle.preflight import Request, decide
from ultrarefiner_monai.bundle.preflight.data import FoundData, find_data, find_images, make_phantom
from ultrarefiner_monai.bundle.preflight.request import Substitutions
from ultrarefiner_monai.data.manifests import load_manifest, shipped_manifest
from ultrarefiner_monai.data.phantom import generate_phantom
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.shipped import BUNDLES

SAM = {"variant": "vit_b", "image_size": None, "sam_checkpoint": None, "points": None, "fusion": "mean", "lora_rank": 0}
OWN = {
    "phase1": {"variant": "r50_vit_b16", "image_size": None, "pretrained": None},
    "phase2": {**SAM, "coarse_predictions": None},
    "phase3": {**SAM, "coarse_variant": "r50_vit_b16", "coarse_size": None}
    | {"phase1_checkpoint": None, "phase2_checkpoint": None},
}


def request(tmp_path, stage="phase1", **keys):
    root = tmp_path / "bundles" / stage
    root.mkdir(parents=True, exist_ok=True)
    shared = {"bundle_root": str(root), "dataset": "BUSBRA", "fold": 0, "epochs": 150}
    return Request.of(stage, OWN[stage] | shared | keys)


def plan(tmp_path, **keys):
    return decide(request(tmp_path, **keys))


def real_data(asked, fold, substitutions):
    manifest = load_manifest(shipped_manifest(asked.dataset))
    return FoundData(asked.dataset, manifest, BUNDLES, str(BUNDLES), {}, [], embedded=False, epochs=asked.epochs)


def test_request_and_plan_cannot_be_changed(tmp_path):
    made = plan(tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.output_dir = "elsewhere"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.request.fold = 1


def test_pictures_of_a_folder_are_sorted_and_a_wrong_folder_is_named(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png"):
        Image.new("L", (3, 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_images(str(tmp_path))] == ["a.JPG", "b.png"]
    with pytest.raises(DataError, match="nowhere: no picture there"):
        find_images("nowhere")


def test_masks_in_a_folder_of_pictures_are_left_out_and_turned_pictures_told(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (3, 2)).save(tmp_path / "benign (1).png", exif=exif)
    Image.new("L", (2, 3)).save(tmp_path / "benign (1)_mask.png")
    Image.new("L", (2, 3)).save(tmp_path / "b_mask.png")  # of no picture there
    assert [path.name for path in find_images(str(tmp_path))] == ["b_mask.png", "benign (1).png"]
    assert caplog.messages == [
        f"left out: 1 masks beside their images in {tmp_path}",
        "turned as their EXIF orientation says, 1 pictures: benign (1).png",
    ]
    assert find_images(str(tmp_path / "benign (1)_mask.png")) == [tmp_path / "benign (1)_mask.png"]


def test_a_training_on_turned_images_says_so(tmp_path, caplog):
    manifest = json.loads(shipped_manifest("PHANTOM").read_text())
    told = "turned as their EXIF orientation says, 2 images: p0001_1, p0001_2"
    (tmp_path / "PHANTOM.json").write_text(json.dumps({**manifest, "warnings": [told, "another"]}))
    find_data(request(tmp_path, dataset="PHANTOM", manifest=str(tmp_path / "PHANTOM.json")), 0, Substitutions(False))
    assert [line for line in caplog.messages if "another" in line or "EXIF" in line] == [f"PHANTOM: {told}"]


def test_a_fresh_clone_gets_announced_substitutions(tmp_path, caplog):
    made = plan(tmp_path)
    assert (made.dataset, made.network["variant"], made.network["image_size"], made.epochs) == (
        "PHANTOM",
        "tiny",
        128,
        12,
    )
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"substituted: {line}" for line in made.substitutions]
    assert len(warnings) == 3
    assert (tmp_path / "data" / "PHANTOM" / "cases.csv").is_file()


def test_a_phantom_of_an_older_version_says_how_to_be_rid_of_it(tmp_path):
    generate_phantom(tmp_path / "data" / "PHANTOM", seed=1)
    with pytest.raises(DataError) as caught:
        plan(tmp_path)
    assert f"remove {tmp_path / 'data' / 'PHANTOM'} to have the phantom made anew" in str(caught.value)


def test_an_interrupted_phantom_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(folder):
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("ultrarefiner_monai.data.phantom.generate_phantom", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "PHANTOM")
    assert not list(tmp_path.iterdir())


def test_real_data_without_phase_1_keep_the_published_coarse_network(tmp_path, monkeypatch):
    monkeypatch.setattr("ultrarefiner_monai.bundle.preflight.decision.find_data", real_data)
    made = plan(tmp_path, stage="phase3", coarse_variant="r50_vit_b16", variant="tiny")
    assert (made.network["coarse_variant"], made.network["coarse_size"]) == ("r50_vit_b16", 224)
    assert len(made.substitutions) == 2


def test_a_trained_model_brings_its_own_sam_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("ultrarefiner_monai.bundle.preflight.decision.find_data", real_data)
    made = plan(tmp_path, stage="phase3", coarse_variant="tiny", variant="vit_b", mode="evaluate")
    assert (made.network["variant"], made.networks.weights, made.substitutions) == ("vit_b", {}, ())


def test_strict_turns_a_substitution_into_an_error(tmp_path):
    with pytest.raises(DataError, match="no data root for BUSBRA"):
        plan(tmp_path, strict=True)
    assert not (tmp_path / "data").exists()


def test_naming_a_data_root_is_strict(tmp_path, small_release):
    root = tmp_path / "bundles" / "phase3"
    with pytest.raises(DataError, match=r"no phase1 model at .*; train phase1 on fold 0 first"):
        plan(tmp_path, stage="phase3", bundle_root=str(root), **small_release)


def test_an_incomplete_release_is_counted(tmp_path, small_release, caplog):
    folder = tmp_path / "PHANTOM"
    shutil.copytree(small_release["data_root"], folder)
    whole = plan(tmp_path, **small_release)
    gone = whole.manifest.split("val", 0)[0]
    (folder / gone["image"]).unlink()
    keys = small_release | {"data_root": str(folder)}
    with pytest.raises(DataError, match=f"{gone['id']}.*missing"):
        plan(tmp_path, **keys)
    partial = plan(tmp_path, allow_missing=True, **keys)
    assert partial.absent == {"fold 0": 1}
    assert len(partial.items("val")) == len(whole.items("val")) - 1
    assert "absent items: fold 0 1" in caplog.text


def test_medsam_lite_has_no_points_unless_asked(tmp_path, small_release):
    keys = {**small_release, "stage": "phase2", "sam_checkpoint": "random", "coarse_predictions": str(tmp_path)}
    assert plan(tmp_path, variant="lite_medsam", **keys).network["points"] == 0
    assert plan(tmp_path, variant="tiny", **keys).network["points"] == 1
    assert plan(tmp_path, variant="lite_medsam", points=2, **keys).network["points"] == 2


def test_sides_are_multiples_of_the_networks_own_strides(tmp_path, small_release):
    """LiteMedSAM's patches are 4 px, ViT's and TransUNet's 16; a table of the plan's own once said 16 for all."""
    keys = {**small_release, "stage": "phase2", "sam_checkpoint": "random", "coarse_predictions": str(tmp_path)}
    assert plan(tmp_path, **keys | {"variant": "lite_medsam", "image_size": 260}).networks.image_size == 260
    with pytest.raises(DataError, match="image_size 260: expected a positive multiple of 16"):
        plan(tmp_path, **keys | {"variant": "tiny", "image_size": 260})


def test_a_training_leaves_out_what_its_key_says_and_an_evaluation_what_the_card_says(tmp_path):
    own = {"dataset": "PHANTOM", "variant": "tiny"}
    assert plan(tmp_path, islands=0.05, **own).islands == 0.05
    model = tmp_path / "model.pt"
    model.touch()
    card = {"system": "ultrarefiner", "stage": "phase1", "dataset": "PHANTOM", "fold": 0}
    for said, expected in (({"islands": 0.2}, 0.2), ({}, 0.0)):
        model.with_suffix(".json").write_text(json.dumps(card | said))
        assert plan(tmp_path, mode="evaluate", checkpoint=str(model), islands=None, **own).islands == expected
        assert plan(tmp_path, mode="evaluate", checkpoint=str(model), islands=0.3, **own).islands == 0.3


def test_no_part_of_a_slice_is_left_out(tmp_path):
    made = plan(tmp_path, islands=0.05, dataset="PHANTOM", variant="tiny")
    items = [{**item, "depth": 3} for item in made.manifest.training]
    volumes = dataclasses.replace(made.manifest, training=items)
    assert dataclasses.replace(made, data=dataclasses.replace(made.data, manifest=volumes)).islands == 0
