"""The network comes back from its card, and predicts what the bundle predicts."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from untrained import PARTS, SIZE, card_of, old_form, save_untrained

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models import CheckpointError, load_model, load_segmenter, read_card
from ultrarefiner_monai.models.segmenter import Segmenter
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

COARSE = {"coarse_variant": "tiny", "coarse_size": 64, "fusion": "learned"}


@pytest.mark.parametrize(("phase", "lora_rank"), [("phase1", 0), ("phase2", 0), ("phase2", 3), ("phase3", 2)])
def test_a_network_is_rebuilt_from_its_card_with_its_weights_and_settings(phase, lora_rank, make_model):
    path, network = make_model(phase, lora_rank)
    rebuilt = load_segmenter(path, device="cpu").network
    assert not rebuilt.training
    assert all(torch.equal(value, rebuilt.state_dict()[name]) for name, value in network.state_dict().items())
    assert getattr(rebuilt, "settings", None) == getattr(network, "settings", None)


@pytest.mark.parametrize(("phase", "keys"), [("phase1", {}), ("phase3", COARSE)])
def test_a_picture_gets_the_mask_of_the_bundles_inference(phase, keys, make_model, picture, predicted_by_bundle):
    path, _ = make_model(phase)
    mask = load_segmenter(path)(read_grey(picture)) >= 0.5
    expected = predicted_by_bundle(phase, path, picture, **keys)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_a_card_from_before_there_were_systems_gives_the_same_network(phase, make_model):
    path, network = make_model(phase)
    new = read_card(path)
    old = old_form(json.loads(path.with_suffix(".json").read_text()))
    assert {"system", "stage", "network", "outputs"}.isdisjoint(old)
    path.with_suffix(".json").write_text(json.dumps(old))
    assert read_card(path) == new
    segmenter = load_segmenter(path, device="cpu")
    assert (segmenter.stage.name, segmenter.size) == (phase, new["image_size"])
    state = segmenter.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_card_from_before_there_were_systems_is_compared_in_its_present_form(make_model):
    path, network = make_model("phase2")
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(old_form(card)))
    expected = {key: card[key] for key in ("stage", "network", "image_size")}
    assert load_model(network, path, expected) == card
    expected["network"] = {"refiner": {**card["network"]["refiner"], "fusion_mode": "mean"}}
    with pytest.raises(CheckpointError, match=r"made with network\.refiner\.fusion_mode = 'learned', expected 'mean'"):
        load_model(network, path, expected)


def test_a_prediction_needs_neither_monai_nor_what_trains(make_model, tmp_path):
    path, _ = make_model("phase3")
    grey = np.random.default_rng(0).random((40, 60), dtype=np.float32)
    np.save(tmp_path / "grey.npy", grey)
    code = f"""
import sys, numpy as np
from ultrarefiner_monai.models import load_segmenter
prediction = load_segmenter({str(path)!r}, device="cpu").predict(np.load({str(tmp_path / "grey.npy")!r}))
np.save({str(tmp_path / "probability.npy")!r}, prediction.probability)
print(*({{"monai", "mlflow", "ignite", "nibabel", "skimage", "pandas"}} & sys.modules.keys()))
print(len([name for name in sys.modules if name.startswith("ultrarefiner_monai")]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unwanted, modules = done.stdout.splitlines()
    assert unwanted == "" and int(modules) <= 52
    expected = load_segmenter(path, device="cpu").predict(grey)
    np.testing.assert_array_equal(np.load(tmp_path / "probability.npy"), expected.probability)


def test_phase_2_refines_the_coarse_map_it_is_given(make_model):
    path, _ = make_model("phase2")
    segment = load_segmenter(path)
    grey = np.random.default_rng(0).random((40, 60), dtype=np.float32)
    coarse = np.zeros((2, 40, 60), dtype=np.float32)
    coarse[0, 5:20, 5:20], coarse[1, 20:35, 30:55] = 1, 1
    first, second = (segment(grey, one) for one in coarse)
    assert first.shape == (40, 60)
    for answer, own, other in ((first, *coarse), (second, *coarse[::-1])):
        assert answer[own > 0].mean() > answer[other > 0].mean() + 0.2
    with pytest.raises(DataError, match="phase2: expected a coarse map to refine beside the image"):
        segment(grey)
    with pytest.raises(DataError, match=r"expected the image's size \(40, 60\), found \(40, 59\)"):
        segment(grey, coarse[0, :, :59])


@pytest.mark.parametrize("phase", ["phase2", "phase3"])
def test_clicks_and_a_box_in_pixels_of_the_image_correct_what_is_refined(phase, make_model):
    segmenter = load_segmenter(make_model(phase)[0], amp=False, device="cpu")
    grey = np.random.default_rng(0).random((80, 120), dtype=np.float32)
    coarse = (np.zeros((80, 120), dtype=np.float32),) if phase == "phase2" else ()
    blank = LesionPrompts(torch.tensor([0]), masks=torch.zeros(1, 1, 80, 120))
    clicks = blank._replace(points=torch.tensor([[[100.0, 20.0], [20.0, 60.0]]]), labels=torch.tensor([[1, 0]]))
    box = blank._replace(boxes=torch.tensor([[85.0, 5.0, 115.0, 35.0]]))
    usual = segmenter.predict(grey, *coarse).probability
    for prompts in (clicks, box):
        told = segmenter.predict(grey, *coarse, prompts=prompts).probability
        assert told[20, 100] > 0.5 > told[60, 20]  # fusion by the mean
    np.testing.assert_array_equal(segmenter.predict(grey, *coarse).probability, usual)


def test_phase_1_takes_no_coarse_map_and_no_clicks(make_model):
    grey = np.zeros((40, 60), dtype=np.float32)
    with pytest.raises(DataError, match="phase1: takes no prompts"):
        load_segmenter(make_model("phase1")[0]).predict(
            grey, prompts=LesionPrompts(torch.tensor([0]), torch.ones(1, 4))
        )
    with pytest.raises(DataError, match="phase1: expected no coarse map beside the image"):
        load_segmenter(make_model("phase1")[0])(grey, grey)


@pytest.mark.parametrize(
    "card",
    [
        *(None, [], {"phase": "phase4"}, {"phase": "phase3", "refiner": {}}, {"refiner": {}}),
        card_of("phase3") | {"network": {"coarse": {"variant": "tiny", "size": 64}}},
        card_of("phase1") | {"network": {"coarse": 5}},
        card_of("phase1") | {"stage": "phase4"},
        card_of("phase1") | {"system": "other"},
    ],
)
def test_a_model_without_a_card_that_says_how_to_build_it_is_refused(card, make_model):
    path, _ = make_model("phase1")
    if card is None:
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(DataError, match=r"model\.json: |^unknown (stage|system) '"):
        load_segmenter(path)


def test_weights_that_are_not_the_cards_are_refused(make_model):
    path, network = make_model("phase1")
    torch.save(network.state_dict(), path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="model"):
        load_segmenter(path)


def test_a_card_from_before_the_class_head_is_that_of_a_network_without(monkeypatch, tmp_path):
    """Its weights fit, its masks are those of then, and a new card still says that it has one."""
    monkeypatch.setitem(PARTS, "automedsam", {"sam": {**PARTS["automedsam"]["sam"], "class_head": False}})
    path, network = save_untrained(tmp_path / "model.pt", "automedsam", labels="classes")
    card = json.loads(path.with_suffix(".json").read_text())
    del card["network"]["sam"]["class_head"]
    path.with_suffix(".json").write_text(json.dumps(card))
    assert read_card(path)["network"]["sam"]["class_head"] is False
    grey = np.random.default_rng(0).random((50, 60), dtype=np.float32)
    found, expected = (
        load_segmenter(path, False, "cpu").predict(grey),
        Segmenter(network, "automedsam", SIZE, False, "cpu").predict(grey),
    )
    np.testing.assert_array_equal(found.probability, expected.probability)
