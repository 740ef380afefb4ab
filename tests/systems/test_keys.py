"""The table of configuration keys: what each may be, which stage has it, and its page."""

import subprocess
import sys
from typing import get_args

import pytest

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.networks.fusion import FusionMode
from ultrarefiner_monai.networks.sam.build import VARIANTS as SAM_VARIANTS
from ultrarefiner_monai.networks.transunet import VARIANTS as TRANSUNET_VARIANTS
from ultrarefiner_monai.shipped import PACKAGE
from ultrarefiner_monai.systems import SYSTEMS, all_stages, find_stage, find_system
from ultrarefiner_monai.systems.keys import (
    complaints,
    configuration,
    is_expression,
    keys_of,
    keys_page,
    read,
    stage_values,
)

STAGES = [name for system in map(find_system, SYSTEMS) for name in all_stages() if all_stages()[name] is system]
TAKEN = {"fold": "--folds", "split": "nothing: a fold is validated on its own images"}


@pytest.mark.parametrize(
    ("stage", "key", "value", "meant"),
    [
        ("phase1", "amp", "False", False),
        ("phase1", "amp", "true", True),
        ("phase1", "resume", False, False),
        ("phase1", "epochs", 3, 3),
        ("phase1", "epochs", "3", 3),
        ("phase1", "fold", "0", 0),
        ("phase1", "seed", 2**32 - 1, 2**32 - 1),
        ("phase1", "normal_share", 0, 0),
        ("phase1", "normal_share", "0.2", 0.2),
        ("phase1", "learning_rate", "1e-3", 1e-3),
        ("phase1", "learning_rate", None, None),
        ("phase1", "variant", "r50_vit_b16", "r50_vit_b16"),
        ("phase1", "device", "cuda:1", "cuda:1"),
        ("phase1", "output_dir", PACKAGE, str(PACKAGE)),
        ("phase2", "variant", "vit_h", "vit_h"),
        ("phase2", "sam_checkpoint", "random", "random"),
        ("phase2", "sam_checkpoint", __file__, __file__),
        ("phase2", "points", 0, 0),
        ("phase2", "points", None, None),
        ("phase2", "real_ratio", 1, 1),
        ("phase2", "cache_rate", "$0.5 if @plan.image_size < 512 else 0", "$0.5 if @plan.image_size < 512 else 0"),
        ("phase3", "coarse_rate", 0, 0),
        ("automedsam", "classes", "lesion", "lesion"),
        ("automedsam", "classes", "benign+malignant", "benign+malignant"),
        ("automedsam", "classes", "$@mine", "$@mine"),
        ("phase3", "loss", {"_target_": "mine.Loss"}, {"_target_": "mine.Loss"}),
        ("phase3", "loss", "$mine.loss()", "$mine.loss()"),
    ],
)
def test_values_are_read_as_they_are_meant(stage, key, value, meant):
    found = read(stage, {key: value})
    assert found == {key: meant}
    assert type(found[key]) is type(meant)
    assert complaints(stage, {key: value}) == []


@pytest.mark.parametrize(
    ("stage", "key", "value", "complaint"),
    [
        ("phase1", "epoch", 1, "unknown configuration key 'epoch': did you mean 'epochs'?"),
        (
            "phase2",
            "normal_share",
            0.2,
            "unknown configuration key 'normal_share': expected one of bundle_root, dataset, ",
        ),
        ("phase1", "seed", "x1", "seed: expected a whole number of at least 0 and at most 4294967295, found 'x1'"),
        ("phase1", "seed", -1, "seed: expected a whole number of at least 0 and at most 4294967295, found -1"),
        ("phase1", "learning_rate", "1e-3x", "learning_rate: expected a number above 0, found '1e-3x'"),
        ("phase1", "learning_rate", -1, "learning_rate: expected a number above 0, found -1"),
        ("phase1", "learning_rate", "nan", "learning_rate: expected a number above 0, found 'nan'"),
        ("phase1", "learning_rate", 10**400, "learning_rate: expected a number above 0, found 1000"),
        ("phase2", "learning_rate", None, "learning_rate: expected a number above 0, found None"),
        ("phase1", "cache_rate", "abc", "cache_rate: expected a number of at least 0 and at most 1, found 'abc'"),
        ("phase1", "cache_rate", 5, "cache_rate: expected a number of at least 0 and at most 1, found 5"),
        ("phase1", "normal_share", 1, "normal_share: expected a number of at least 0 and below 1, found 1"),
        ("phase2", "points", -1, "points: expected a whole number of at least 0 and at most 100, found -1"),
        ("phase2", "points", "abc", "points: expected a whole number of at least 0 and at most 100, found 'abc'"),
        ("phase2", "points", 1.5, "points: expected a whole number of at least 0 and at most 100, found 1.5"),
        ("phase3", "lora_rank", 2.5, "lora_rank: expected a whole number of at least 0 and at most 1024, found 2.5"),
        ("phase1", "output_dir", 3, "output_dir: expected a path, found 3"),
        ("phase1", "output_dir", "", "output_dir: expected a path, found ''"),
        ("phase1", "data_root", {"BUSI": "data"}, "data_root: expected a path, found {'BUSI': 'data'}"),
        ("phase1", "device", "cudaa", "device: expected cpu, cuda or cuda:N, found 'cudaa'"),
        ("phase1", "workers", 0.5, "workers: expected a whole number of at least 0, found 0.5"),
        ("phase1", "fold", 1.0, "fold: expected a whole number of at least 0, found 1.0"),
        ("phase1", "fold", "1.0", "fold: expected a whole number of at least 0, found '1.0'"),
        ("phase1", "val_interval", True, "val_interval: expected a whole number above 0, found True"),
        ("phase1", "epochs", "many", "epochs: expected a whole number above 0, found 'many'"),
        ("phase1", "epochs", 0, "epochs: expected a whole number above 0, found 0"),
        ("phase1", "resume", "maybe", "resume: expected true or false, found 'maybe'"),
        ("phase1", "amp", 1, "amp: expected true or false, found 1"),
        ("phase1", "amp", None, "amp: expected true or false, found None"),
        ("phase1", "variant", "vit_b", "variant: expected one of r50_vit_b16, tiny, found 'vit_b'"),
        (
            "phase2",
            "variant",
            "r50_vit_b16",
            "variant: expected one of vit_b, vit_l, vit_h, lite_medsam, tiny, found 'r50",
        ),
        ("phase3", "fusion", "best", "fusion: expected one of none, mean, uncertainty, learned, hybrid, found 'best'"),
        ("phase3", "weighting", "best", "weighting: expected one of learned, fixed, found 'best'"),
        ("phase1", "pretrained", "no.npz", "pretrained: expected an existing file, found 'no.npz'"),
        ("phase2", "sam_checkpoint", "no.pth", "sam_checkpoint: expected an existing file or random, found 'no.pth'"),
        ("phase3", "phase1_checkpoint", "no.pt", "phase1_checkpoint: expected an existing file, found 'no.pt'"),
        ("phase3", "phase2_checkpoint", "no.pt", "phase2_checkpoint: expected an existing file, found 'no.pt'"),
        ("phase1", "loss", "dice", "loss: a component of this configuration, found 'dice'"),
        (
            "automedsam",
            "classes",
            "benign",
            "classes: expected lesion, or two or more names such as benign+malignant, ",
        ),
        (
            "automedsam",
            "classes",
            None,
            "classes: expected lesion, or two or more names such as benign+malignant, found",
        ),
    ],
)
def test_values_that_a_key_cannot_have_are_told_in_one_line(stage, key, value, complaint):
    (line,) = complaints(stage, {key: value})
    assert line.startswith(complaint)
    assert "\n" not in line
    with pytest.raises(DataError) as caught:
        read(stage, {key: value})
    assert str(caught.value) == line


def test_keys_of_a_prediction_are_those_of_its_own_file():
    own = configuration(find_stage("phase1")[1], "inference")
    assert complaints("phase1", {"dataset_name": "BUSI", "images": "folder", "checkpoint": __file__}, own) == []
    assert complaints("phase1", {"epochs": 3, "dataset": "BUSI", "checkpoint": "no.pt"}, own) == [
        f"unknown configuration key 'epochs': expected one of {', '.join(keys_of('phase1', own))}",
        "dataset: a component of this configuration, found 'BUSI'; did you mean 'dataset_name'?",
        "checkpoint: expected an existing file, found 'no.pt'",
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_every_plain_value_of_a_configuration_is_a_key_that_can_have_it(stage):
    for names in (find_stage(stage)[1].configs, ("multi_gpu_train",), ("evaluate",), ("inference",)):
        own = configuration(find_stage(stage)[1], *names)
        plain = {key: value for key, value in own.items() if not isinstance(value, dict | list) and "#" not in key}
        assert not {key for key, value in plain.items() if not is_expression(value)} - keys_of(stage, own).keys()
        assert complaints(stage, own, own) == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_key_of_the_table_is_one_of_a_configuration(system):
    stages = find_system(system).stages
    found = {
        key
        for stage in stages
        for name in (*stage.configs, "evaluate", "inference")
        for key in configuration(stage, name)
    }
    assert {key.name for key in find_system(system).keys} <= found


def test_choices_are_those_of_the_networks():
    table = {(stage, key.name): key.choices for stage in STAGES for key in keys_of(stage, own_of(stage)).values()}
    assert table["phase1", "variant"] == table["phase3", "coarse_variant"] == tuple(TRANSUNET_VARIANTS)
    assert table["phase2", "variant"] == table["phase3", "variant"] == tuple(SAM_VARIANTS)
    assert table["phase2", "fusion"] == get_args(FusionMode)


def own_of(stage):
    return configuration(find_stage(stage)[1])


def test_the_page_of_the_documentation_is_that_of_the_table():
    path = PACKAGE.parent / "docs" / "reference" / "keys.md"
    command = [sys.executable, "-W", "error", "-m", "ultrarefiner_monai.systems.keys"]
    written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert written == keys_page() == path.read_text(encoding="utf-8"), f"run {' '.join(command[-2:])} > {path}"


def test_a_shared_key_goes_to_the_stages_that_have_it():
    shared = {"sam_variant": "lite_medsam", "coarse_variant": "tiny", "coarse_size": 64, "sam_size": 128}
    shared |= {"seed": 1, "fusion": "mean", "normal_share": 0.1, "allow_missing": "true"}
    common = {"seed": 1, "allow_missing": True}
    assert stage_values(find_system(), shared, {"phase3": {"coarse_size": 96, "epochs": 2}}) == {
        "phase1": {"variant": "tiny", "image_size": 64, "normal_share": 0.1, **common},
        "phase2": {"variant": "lite_medsam", "image_size": 128, "fusion": "mean", **common},
        "phase3": {
            **{"variant": "lite_medsam", "image_size": 128, "coarse_variant": "tiny", "coarse_size": 96},
            **{"fusion": "mean", "epochs": 2, **common},
        },
    }


def test_the_demonstrations_settings_are_its_stages():
    for system in map(find_system, SYSTEMS):
        assert stage_values(system, {}, system.quick) == system.quick


@pytest.mark.parametrize(
    ("shared", "settings", "complaint"),
    [
        (
            {"variant": "tiny"},
            {},
            "'variant' is not the same thing in every stage; use --coarse_variant or --sam_variant",
        ),
        ({"image_size": 64}, {}, "'image_size' is not the same thing in every stage; use --coarse_size or --sam_size"),
        (
            {"sam_variant": "r50_vit_b16"},
            {},
            "sam_variant: expected one of vit_b, vit_l, vit_h, lite_medsam, tiny, found",
        ),
        ({"epoch": 1}, {}, "unknown configuration key 'epoch': did you mean 'epochs'?"),
        ({"workers": 0.5}, {}, "workers: expected a whole number of at least 0, found 0.5"),
        ({"fold": 1}, {}, "'fold' is set by the cross-validation; use --folds"),
        ({}, {"phase2": {"fold": 1}}, "'fold' is set by the cross-validation; use --folds"),
        ({"phase1_checkpoint": "x"}, {}, "'phase1_checkpoint' is set by the cross-validation; use nothing: it is the"),
        (
            {"coarse_predictions": "x"},
            {},
            "'coarse_predictions' is set by the cross-validation; use nothing: it is the",
        ),
        ({}, {"phse1": {}}, "unknown stage 'phse1': did you mean 'phase1'?"),
        ({}, {"phase1": 3}, "phase1: expected an object of keys, found 3"),
        ({}, {"phase1": {"epoch": 3}}, "phase1: unknown configuration key 'epoch': did you mean 'epochs'?"),
        ({}, {"phase1": {"points": 3}}, "phase1: unknown configuration key 'points': expected one of"),
        ({}, {"phase2": {"epochs": "x"}}, "phase2: epochs: expected a whole number above 0, found 'x'"),
    ],
)
def test_a_cross_validation_is_told_of_each_mistake_once(shared, settings, complaint):
    with pytest.raises(DataError) as caught:
        stage_values(find_system(), shared, settings, TAKEN)
    assert str(caught.value).startswith(complaint)
    assert ";" not in str(caught.value).removeprefix(complaint)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(
        DataError, match=r"^'fold' is .*; use --folds; seed: .*, found -1; phase1: epochs: .*, found 0$"
    ):
        stage_values(find_system(), {"fold": 0, "seed": -1}, {"phase1": {"epochs": 0}}, TAKEN)
