"""LoRA from the training to every export: its rank is in the card, its weights are in the predictions."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from untrained import old_form

from ultrarefiner_monai.bundle.preflight.simulated_predictions import simulate_predictions
from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.data.manifests.manifest import load_manifest
from ultrarefiner_monai.deploy.export.formats import (
    ONNX_PACKAGES,
    PARITY,
    export_onnx,
    export_safetensors,
    export_torchscript,
    load_onnx,
    load_torchscript,
)
from ultrarefiner_monai.deploy.monailabel.export import export_monailabel
from ultrarefiner_monai.deploy.monailabel.parts import untrained_network
from ultrarefiner_monai.handlers import load_model
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.networks.export_parts import made_samples

RANK = 4
TOLD = {"dataset": "PHANTOM", "fold": 0, "manifest_sha256": "0" * 64, "epoch": 1, "version": "0.1.0", "metric": {}}
OTHER_RANK = (
    r"model\.pt: made with network\.refiner\.lora_rank = 4, expected {}; change the setting or use another checkpoint$"
)
PARTS = ("model", "encoder", "decoder")


def inputs_of(phase):
    """What the network of a phase takes: pictures, and beside them for phase 2 the coarse maps."""
    image, coarse = made_samples(64)
    return torch.cat((image, coarse), 1) if phase == "phase2" else image


@torch.no_grad()
def refined(network, phase):
    """Fused probabilities (3, 1, S, S)."""
    return network.cpu().eval()(inputs_of(phase)).sigmoid()


def without_adapters(network):
    """A copy whose adapters add nothing."""
    plain = deepcopy(network)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if ".lora_B." in name:
                parameter.zero_()
    return plain


@pytest.fixture(params=["phase2", "phase3"])
def adapted(request, make_model):
    """The file, the phase and the probabilities of a model whose adapters change what it predicts."""
    path, network = make_model(request.param, RANK)
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | TOLD))
    expected = refined(network, request.param)
    assert (expected - refined(without_adapters(network), request.param)).abs().max() > 50 * PARITY
    return path, request.param, expected


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=PARITY)


def test_the_card_states_the_rank_and_an_older_one_is_completed_from_the_weights(adapted):
    path, phase, expected = adapted
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["network"]["refiner"].pop("lora_rank") == RANK
    assert_same(refined(load_segmenter(path).network, phase), expected)
    path.with_suffix(".json").write_text(json.dumps(old_form(card)))
    assert_same(refined(load_segmenter(path).network, phase), expected)


@pytest.mark.parametrize(
    ("write", "load", "suffix"),
    [
        pytest.param(export_torchscript, load_torchscript, ".ts", id="torchscript"),
        pytest.param(export_onnx, load_onnx, ".onnx", id="onnx", marks=pytest.mark.slow),
    ],
)
def test_exported_networks_have_the_adapters_in_their_weights(write, load, suffix, adapted, tmp_path):
    if write is export_onnx:
        for name in ONNX_PACKAGES:
            pytest.importorskip(name, reason="the extra 'onnx' is not installed")
    path, phase, expected = adapted
    write(path, tmp_path / "out")
    model, encoder, decoder = (load(tmp_path / "out" / f"{name}{suffix}") for name in PARTS)
    both = model(inputs_of(phase)).sigmoid().detach()
    assert_same(both[:, 1:], expected)
    image, _ = made_samples(64)
    assert_same(decoder(both[:, :1], encoder(image)).sigmoid().detach(), expected)
    if suffix == ".ts":
        assert not [name for name, _ in encoder.named_parameters() if "lora" in name]


def test_safetensors_keep_the_adapters(adapted, tmp_path):
    path, phase, expected = adapted
    export_safetensors(path, tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    assert json.loads(weights.with_suffix(".json").read_text())["network"]["refiner"]["lora_rank"] == RANK
    assert_same(refined(load_segmenter(weights).network, phase), expected)


def test_an_exported_bundle_predicts_with_the_adapters_and_with_no_other_rank(export_of, picture, tmp_path):
    bundle, network = export_of("phase3", RANK)

    def run(**keys):
        told = {"bundle_root": str(bundle), "images": str(picture), "predictions_dir": str(tmp_path / "masks"), **keys}
        workflow = ConfigWorkflow([str(bundle / "configs" / "inference.json")], workflow_type="infer", **told)
        workflow.initialize()
        workflow.run()
        return workflow

    predicted = run().parser.get_parsed_content("network")
    assert_same(refined(predicted, "phase3"), refined(network, "phase3"))
    mask = load_segmenter(bundle / "models" / "model.pt")(read_grey(picture)) >= 0.5
    assert 0 < mask.mean() < 1
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "masks" / f"{picture.stem}.png")) > 0, mask)
    with pytest.raises(SystemExit, match=OTHER_RANK.format(2)):
        run(lora_rank=2)


def test_a_served_model_has_the_adapters(adapted, tmp_path):
    path, phase, expected = adapted
    export_monailabel(path, tmp_path / "apps", name="served")
    bundle = tmp_path / "apps" / "monaibundle" / "model" / "served"
    network = untrained_network(bundle)
    load_model(network, bundle / "models" / "model.pt")
    assert_same(refined(network, phase), expected)


@pytest.fixture
def phase2_keys(training, tmp_path):
    """Keys of a phase 2 on the phantom, whose coarse maps are made from the truth."""
    keys = {key: training.keys[key] for key in ("dataset", "data_root", "manifest", "variant", "image_size")}
    simulate_predictions(load_manifest(keys["manifest"]), keys["data_root"], "phase1", tmp_path / "coarse")
    return keys | {"coarse_predictions": str(tmp_path / "coarse"), "output_dir": str(tmp_path / "phase2")}


def test_a_training_notes_the_rank_and_its_model_is_loaded_with_that_rank_only(training, phase2_keys, tmp_path):
    store = {"epochs": 1, "tracking_uri": f"sqlite:///{tmp_path / 'm.db'}", "log_model": False}
    run_bundle("phase2", "train", lora_rank=RANK, sam_checkpoint="random", **store, **phase2_keys)
    model = tmp_path / "phase2" / "model.pt"
    card = json.loads(model.with_suffix(".json").read_text())
    assert card["network"]["refiner"]["lora_rank"] == RANK
    state = load_segmenter(model).network.state_dict()
    assert all(tensor.abs().max() > 0 for name, tensor in state.items() if ".lora_B." in name)  # they start at zero

    inference = {("dataset_name" if key == "dataset" else key): value for key, value in phase2_keys.items()}
    run_bundle("phase2", "inference", lora_rank=RANK, **inference)
    assert list((tmp_path / "phase2" / "predictions" / "refined").rglob("*.nii.gz"))
    with pytest.raises(SystemExit, match=OTHER_RANK.format(0)):
        run_bundle("phase2", "inference", **inference)
    starts = {"phase1_checkpoint": str(training.folder / "model.pt"), "phase2_checkpoint": str(model)}
    sizes = {"coarse_variant": "tiny", "coarse_size": 64, "output_dir": str(tmp_path / "phase3")}
    keys = {key: value for key, value in phase2_keys.items() if key != "coarse_predictions"} | starts | sizes | store
    with pytest.raises(SystemExit, match=OTHER_RANK.format(1)):
        run_bundle("phase3", "train", lora_rank=1, **keys)

    del card["network"]["refiner"]["lora_rank"]  # of an older training: the weights themselves refuse another rank
    model.with_suffix(".json").write_text(json.dumps(old_form(card)))
    run_bundle("phase2", "inference", lora_rank=RANK, **inference)
    with pytest.raises(SystemExit, match=r"model\.pt does not fit this SamRefiner: .*; check variant and sizes$"):
        run_bundle("phase2", "inference", **inference)
