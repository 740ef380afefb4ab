"""The pieces that a server puts together; no server needed."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from ultrarefiner_monai.deploy.monailabel.parts import (
    AdjustedInferer,
    CoarseMapd,
    MaskForClientd,
    classes_of,
    options_of,
    predict_file,
    preprocessing,
    stage_of,
    uncertainty,
)
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.metrics.classes import class_mask, class_probability
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.networks.ultrarefiner import with_prompts


def test_uncertainty_is_the_mean_entropy_in_bits():
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert uncertainty(np.array([[0.5, 0.25], [0.0, 1.0]], dtype=np.float32)) == pytest.approx((1 + quarter) / 4)


def test_options_are_the_prompts_the_model_was_trained_with(models):
    card = json.loads(models["phase2"].with_suffix(".json").read_text())
    card["network"]["refiner"] |= {"prompt_box": False, "prompt_positive_points": 3}
    assert options_of(card) == {
        "threshold": 0.5,
        "show": ["refined", "coarse"],
        "positive_points": 3,
        "negative_points": 1,
        "box": False,
        "mask": True,
        "box_margin": 0.0,
    }
    assert options_of({"stage": "phase1", "network": {}}) == {"threshold": 0.5}


def test_other_prompts_leave_the_network_as_it_is(models):
    network = load_segmenter(models["phase3"], device="cpu").network
    changed = with_prompts(network, {"box": False, "box_margin": 0.5})
    assert (changed.refiner.prompts.box, changed.refiner.prompts.box_margin) == (False, 0.5)
    assert network.refiner.prompts.box is True
    assert changed.refiner.sam is network.refiner.sam


@pytest.mark.parametrize(
    ("changed", "reason"), [({"box_margin": -1}, "must be >= 0"), ({"positive_points": "many"}, "")]
)
def test_options_that_the_network_refuses_are_told_in_one_line(changed, reason, models, tmp_path):
    network = load_segmenter(models["phase3"], device="cpu").network
    shutil.copytree(models["phase3"].parent, tmp_path / "models")
    with pytest.raises(DataError, match=rf"^options \{{'{next(iter(changed))}': .*\}}: .*{reason}"):
        AdjustedInferer(tmp_path, changed)(torch.zeros(1, 1, 64, 64), network)


@pytest.mark.parametrize(("phase", "channels"), [("phase1", 1), ("phase3", 2)])
def test_the_inferer_gives_every_output_with_the_options_of_the_client(phase, channels, models, tmp_path):
    network = load_segmenter(models[phase], device="cpu").network
    shutil.copytree(models[phase].parent, tmp_path / "models")
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    usual, other = (AdjustedInferer(tmp_path, options)(image, network) for options in ({}, {"box": False, "show": "x"}))
    assert usual.shape == (1, channels, 64, 64)
    assert torch.equal(usual, other) == (phase == "phase1")


@pytest.mark.parametrize(("show", "channel"), [("coarse", 0), ("refined", 1), (None, 1), ("other", 1)])
def test_a_client_is_shown_the_output_that_it_names(show, channel):
    logits = torch.stack([torch.full((64, 64), -3.0), torch.full((64, 64), 3.0)])
    image = MetaTensor(torch.zeros(1, 64, 64), meta={"spatial_shape": (32, 64)})
    request = {"image": image, "pred": logits, "threshold": "0.5"} | ({"show": show} if show else {})
    item = MaskForClientd("pred", ("coarse", "refined"))(request)
    assert item["pred"].shape == (64, 32) and item["pred"].all() == bool(channel)


def test_classes_are_shown_beside_the_lesion(classes_model):
    card = json.loads(classes_model.with_suffix(".json").read_text())
    assert options_of(card) == {"threshold": 0.5, "show": ["mask", "benign", "malignant"]}
    card["network"]["sam"]["classes"] = "lesion"
    assert options_of(card) == {"threshold": 0.5}


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        (None, [[1, 1, 0], [1, 0, 0]]),
        ("mask", [[1, 1, 0], [1, 0, 0]]),
        ("benign", [[1, 0, 0], [0, 0, 0]]),
        ("malignant", [[0, 1, 0], [1, 0, 0]]),
    ],
)
def test_a_class_is_shown_where_it_is_the_likeliest_of_the_lesion(show, expected):
    benign = torch.tensor([[0.7, 0.1, 0.3], [0.2, 0.1, 0.0]])
    malignant = torch.tensor([[0.2, 0.6, 0.1], [0.5, 0.1, 0.0]])
    planes = torch.stack([benign + malignant, benign, malignant]).logit(eps=1e-6)
    pred = torch.full((3, 3, 3), -9.0)  # the lowest row is padding
    pred[:, :2] = planes
    image = MetaTensor(torch.zeros(1, 3, 3), meta={"spatial_shape": (2, 3)})
    request = {"image": image, "pred": pred} | ({"show": show} if show else {})
    item = MaskForClientd("pred", ("mask",), ("benign", "malignant"))(request)
    assert item["pred"].T.tolist() == expected
    result = item["result"]
    assert result["lesion_pixels"] == np.sum(expected)
    assert result["class"] == "malignant"
    assert result["class_probability"] == pytest.approx(1.3 / 2.3, abs=1e-4)  # sums over the three pixels of the lesion


def test_what_a_server_shows_of_a_model_is_what_the_model_finds(classes_model, tmp_path):
    shutil.copytree(classes_model.parent, tmp_path / "models")
    rows = np.add.outer(np.arange(40), 2 * np.arange(64)).astype(np.uint8)
    Image.fromarray(rows).save(tmp_path / "one.png")
    network = load_segmenter(classes_model, device="cpu").network
    found = load_segmenter(classes_model, device="cpu").predict(rows / np.float32(255))
    classes = np.stack(list(found.classes.values()))
    shown = {}
    for show in ("mask", "benign", "malignant"):
        item = preprocessing(tmp_path)({"image": str(tmp_path / "one.png")}) | {"show": show}
        with torch.inference_mode():
            item["pred"] = AdjustedInferer(tmp_path, {"show": show})(item["image"][None].as_tensor(), network)[0]
        item = MaskForClientd("pred", stage_of(tmp_path).outputs, classes_of(tmp_path))(item)
        shown[show] = item["pred"].T
    mask = class_mask(found.probability, classes)
    assert 0 < (mask == 1).sum() < (mask > 0).sum() < mask.size
    np.testing.assert_array_equal(shown["mask"], mask > 0)
    for number, name in enumerate(("benign", "malignant"), start=1):
        np.testing.assert_array_equal(shown[name], mask == number)
    assert uncertainty(predict_file(tmp_path, tmp_path / "one.png")) == pytest.approx(uncertainty(found.probability))
    expected = class_probability(found.probability, classes)
    assert item["result"]["class_probability"] == pytest.approx(expected.max(), abs=1e-6)


def test_phase_2_without_a_mask_and_without_a_network_says_what_it_needs(models, tmp_path):
    coarse = CoarseMapd("coarse", str(tmp_path / "phase1" / "model.pt"), request=True)
    with pytest.raises(DataError, match=r"send a mask as 'label', or export the model with --coarse MODEL .phase1."):
        coarse({"image": torch.zeros(1, 4, 5)})


def test_what_the_network_sees_of_phase_2_is_picture_and_proposal(models, tmp_path):
    from PIL import Image

    from ultrarefiner_monai.data.images import read_grey

    (tmp_path / "models" / "phase1").mkdir(parents=True)
    for suffix in (".pt", ".json"):
        (tmp_path / "models" / f"model{suffix}").write_bytes(models["phase2"].with_suffix(suffix).read_bytes())
        copy = tmp_path / "models" / "phase1" / f"model{suffix}"
        copy.write_bytes(models["phase1"].with_suffix(suffix).read_bytes())
    Image.fromarray(np.add.outer(np.arange(40), 2 * np.arange(64)).astype(np.uint8)).save(tmp_path / "one.png")
    seen = preprocessing(tmp_path)({"image": str(tmp_path / "one.png")})["image"]
    grey = read_grey(tmp_path / "one.png")
    assert tuple(seen.shape) == (2, 64, 64)
    np.testing.assert_allclose(seen[0, :40], grey, atol=1e-6)
    np.testing.assert_allclose(seen[1, :40], load_segmenter(models["phase1"])(grey), atol=1e-6)
    assert not seen[:, 40:].any()


def test_a_request_and_a_labelled_image_are_turned_alike(models, tmp_path):
    """The mask that a client gets has the size of the image as displayed; training reads image and label so, too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)  # 12 bits
    Image.fromarray(shown).save(tmp_path / "upright.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(shown))).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray((shown > 1200).astype(np.uint8)).save(tmp_path / "label.png")
    shutil.copytree(models["phase1"].parent, tmp_path / "models")
    read = preprocessing(tmp_path, labelled=True)
    items = [
        read({"image": str(tmp_path / f"{name}.png"), "label": str(tmp_path / "label.png")})
        for name in ("turned", "upright")
    ]
    for key in ("image", "label"):
        assert torch.equal(items[0][key].as_tensor(), items[1][key].as_tensor())
    assert items[0]["image"].meta["spatial_shape"] == (40, 60)
    assert items[0]["image"].max() > 0.5  # 2399 of 4095


def test_an_image_is_none_of_the_organs_that_a_model_tells_apart():
    """Their masks can be shown; the answer names no class of the picture."""
    request = {"image": MetaTensor(torch.zeros(1, 4, 4), meta={"spatial_shape": (4, 4)}), "show": "spleen"}
    request["pred"] = torch.stack([torch.full((4, 4), 2.0), torch.full((4, 4), -1.0), torch.full((4, 4), 1.0)])
    item = MaskForClientd("pred", ("step2",), ("liver", "spleen"), organs=True)(request)
    assert item["pred"].all() and not {"class", "class_probability"} & item["result"].keys()
