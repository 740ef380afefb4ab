"""What was run, read from a made cross-validation."""

import json
from dataclasses import replace

from made_results import MODELS, THREE

from ultrarefiner_monai.reports.result_facts import DIFFERS, curves, facts
from ultrarefiner_monai.reports.result_files import read_results


def test_facts(made_results_folder):
    found = facts(read_results(made_results_folder.folder))
    assert found["manifest"] | {"sha256": ""} == {
        "sha256": "", "folds": 2, "seed": 42, "training": 8, "test": 4, "normal": 0, "patients": 6, "excluded": 0,
    }  # fmt: skip
    assert found["runs"][-1]["weights_sha256"] == MODELS["phase3"] and found["runs"][-1]["epochs"] == 2
    assert found["settings"]["phase1"] == {"dataset": "PHANTOM", "seed": 7, "epochs": 2}
    assert found["versions"]["ultrarefiner_monai (runs)"] == "9.9"


def test_settings_that_differ_and_weights_from_elsewhere(made_results_folder):
    files = read_results(made_results_folder.folder)
    first, *others = files.runs
    changed = replace(
        first, config=first.config | {"seed": 8}, params={"sam_weights_sha256": "ab", "phase1_sha256": "1" * 64}
    )
    found = facts(replace(files, runs=(changed, *others)))
    assert found["settings"]["phase1"]["seed"] == DIFFERS
    assert found["starting_weights"] == {"sam_weights_sha256": ["ab"]}  # phase 1's are the cross-validation's own


def test_folders_of_the_machine_are_not_told(made_results_folder, tmp_path):
    files = read_results(made_results_folder.folder)
    changed = [replace(run, config=run.config | {"pretrained": str(tmp_path / "R50.npz")}) for run in files.runs]
    found = facts(replace(files, runs=tuple(changed)))
    assert found["settings"]["phase1"]["pretrained"] == "R50.npz"
    assert str(tmp_path) not in str(found["settings"])


def test_networks_of_old_and_new_cards_and_of_any_system(make_results):
    cv = make_results()
    parts = {"coarse": {"variant": "tiny", "size": 128}, "refiner": {"lora_rank": 0}}
    told = {"coarse.variant": "tiny", "coarse.size": 128, "refiner.lora_rank": 0}
    old, new, other = (
        {"phase": "phase3", **parts},
        {"system": "ultrarefiner", "network": parts},
        {"network": {"size": 64}},
    )
    for card, expected in ((old, told), (new, told), (other, {"size": 64})):
        for fold in (0, 1):
            (cv.folder / f"phase3/fold{fold}/model.json").write_text(json.dumps(card))
        assert facts(read_results(cv.folder))["architecture"]["phase3"] == expected


def test_curves_are_of_the_outputs_and_weights_that_were_logged(study_of):
    files = read_results(study_of(THREE).folder)
    numbers = {"val_delta_dice": 0.1, "val_unet_iou": 0.5, "weight_unet": 0.5, "train_unet_dice": 0.3, "lr_0": 0.1}
    for epoch in files.runs[0].epochs.values():
        epoch.update(numbers)
    names = [curve["name"] for curve in curves(files) if curve["fold"] == 0]
    assert names == ["train_loss", "val_unet_dice", "val_step1_dice", "val_step2_dice", "weight_unet"]


def test_curves_count_a_repeated_epoch_once(made_results_folder):
    found = curves(read_results(made_results_folder.folder))
    assert {"phase": "phase3", "fold": 1, "name": "val_refined_dice", "steps": [1, 2], "values": [1.1, 1.2]} in found
    assert not any(curve["phase"] == "phase1" and "refined" in curve["name"] for curve in found)
