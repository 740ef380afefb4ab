"""What is exported predicts what the network predicts, for any batch and whatever the coarse map holds."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from untrained import PARTS, REFINER, card_of, save_untrained

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.export import formats as export
from ultrarefiner_monai.deploy.export.formats import (
    ONNX_PACKAGES,
    PARITY,
    export_onnx,
    export_safetensors,
    export_torchscript,
    load_onnx,
    load_torchscript,
    parts_of,
)
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import file_sha256
from ultrarefiner_monai.handlers import CheckpointError, save_model
from ultrarefiner_monai.models import build_network, load_segmenter
from ultrarefiner_monai.models.segmenter import Segmenter
from ultrarefiner_monai.networks import UltraRefiner
from ultrarefiner_monai.networks.export_parts import Part
from ultrarefiner_monai.networks.letterbox import letterbox
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

SIZE = 64
TORCHSCRIPT = (export_torchscript, load_torchscript, ".ts")
ONNX = (export_onnx, load_onnx, ".onnx")
FORMATS = [pytest.param(TORCHSCRIPT, id="torchscript"), pytest.param(ONNX, id="onnx", marks=pytest.mark.slow)]


def need_onnx(kind):
    if kind is ONNX:
        for name in ONNX_PACKAGES:
            pytest.importorskip(name, reason="the extra 'onnx' is not installed")


def coarse_maps():
    """Probabilities (5, 1, SIZE, SIZE): one lesion, two, none, all, and one too faint to refine."""
    maps = torch.zeros(5, 1, SIZE, SIZE)
    maps[0, 0, 10:30, 20:50] = 0.9
    maps[1, 0, 5:15, 5:20], maps[1, 0, 35:60, 30:45] = 1, 0.7
    maps[3] = 1
    maps[4, 0, 20:40, 20:40] = 0.05
    return maps


def images(count=5):
    """Pictures (count, 1, SIZE, SIZE) in [0, 1] that are none of the exporter's samples, with padding below the first."""
    made = torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(7)) * 0.8
    made[0, :, 50:] = 0
    return made


def probabilities(logits):
    return torch.as_tensor(logits).sigmoid().detach().numpy()


def assert_same(run, network, *inputs):
    """The exported file gives the network's probabilities for the whole batch, for three and for each alone."""
    with torch.no_grad():
        expected = probabilities(network(*inputs))
        for size in (len(inputs[0]), 3, 1):
            for start in range(0, len(inputs[0]), size):
                found = probabilities(run(*(value[start : start + size] for value in inputs)))
                np.testing.assert_allclose(found, expected[start : start + size], rtol=0, atol=PARITY)


@pytest.mark.parametrize("kind", [pytest.param(TORCHSCRIPT, id="torchscript"), pytest.param(ONNX, id="onnx")])
def test_phase_1_on_real_images(kind, make_model, shared_data, tmp_path):
    need_onnx(kind)
    write, load, suffix = kind
    path, network = make_model("phase1")
    write(path, tmp_path / "out")
    paths = sorted((shared_data / "BUS-BRA" / "BUSBRA" / "Images").glob("*.png"))[::150]
    assert len(paths) >= 3
    batch = torch.stack([letterbox(torch.from_numpy(read_grey(path))[None], SIZE) for path in paths])
    assert probabilities(network.eval()(batch)).std() > 0.01
    assert_same(load(tmp_path / "out" / f"model{suffix}"), network, batch)


@pytest.mark.parametrize("kind", FORMATS)
def test_phase_2_whole_and_in_halves_whatever_the_coarse_map_holds(kind, make_model, tmp_path):
    need_onnx(kind)
    write, load, suffix = kind
    path, network = make_model("phase2")
    write(path, tmp_path / "out")
    maps = coarse_maps()
    with torch.no_grad():
        parts = network.eval()(torch.cat((images(), maps), 1), return_parts=True)
    assert parts.prompts.empty.tolist() == [False, False, True, True, True]
    assert (parts.logits.sigmoid() - maps)[:2].abs().max() > 0.1  # refining changes something

    whole = load(tmp_path / "out" / f"model{suffix}")
    assert_same(whole, lambda x: torch.cat((parts.coarse_logits, parts.logits), 1), torch.cat((images(), maps), 1))
    encoder, decoder = (load(tmp_path / "out" / f"{name}{suffix}") for name in ("encoder", "decoder"))
    embedding = encoder(images()).clone()
    assert_same(decoder, lambda coarse, _: parts.logits, maps, embedding)
    once = embedding[:1].expand(5, -1, -1, -1).contiguous()  # encode once, refine often
    with torch.no_grad():
        often = network.refine(images()[:1].expand(5, -1, -1, -1), maps).logits
    assert_same(decoder, lambda coarse, _: often, maps, once)


class CoarseStub(nn.Module):
    """A coarse network whose mask is the picture's bright part."""

    def forward(self, x):
        return 40 * (x - 0.5)


@pytest.mark.parametrize("kind", FORMATS)
def test_phase_3_whatever_its_coarse_network_finds(kind, make_model, monkeypatch, tmp_path):
    need_onnx(kind)
    write, load, suffix = kind
    path, trained = make_model("phase3")
    network = UltraRefiner(CoarseStub(), trained.refiner).eval()
    monkeypatch.setattr(export, "load_segmenter", lambda *_, **__: Segmenter(network, "phase3", SIZE, False, "cpu"))
    monkeypatch.setattr(export, "parts_of", lambda segmenter: {"model": parts_of(segmenter)["model"]})
    write(path, tmp_path / "out")
    pictures = coarse_maps()
    with torch.no_grad():
        parts = network(pictures, return_parts=True)
    assert parts.prompts.empty.tolist() == [False, False, True, True, True]
    expected = torch.cat((parts.coarse_logits, parts.logits), 1)
    assert_same(load(tmp_path / "out" / f"model{suffix}"), lambda _: expected, pictures)


@pytest.mark.parametrize(("classes", "channels"), [("lesion", 1), ("benign+malignant", 3)])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_network_that_is_asked_with_classes_whole_and_in_halves(kind, classes, channels, make_model, tmp_path):
    need_onnx(kind)
    write, load, suffix = kind
    path, network = make_model("automedsam", classes=classes)
    write(path, tmp_path / "out")
    index = json.loads((tmp_path / "out" / f"{kind[0].__name__.removeprefix('export_')}.json").read_text())
    assert index["files"][f"model{suffix}"]["output"] == {"logits": ["batch", channels, SIZE, SIZE]}
    with torch.no_grad():
        expected = network.eval()(images())
    assert expected.shape == (5, channels, SIZE, SIZE) and expected[:, -1].sigmoid().std() > 0.05
    model, encoder, decoder = (load(tmp_path / "out" / f"{name}{suffix}") for name in ("model", "encoder", "decoder"))
    assert_same(model, network, images())
    assert_same(decoder, lambda _: expected, encoder(images()).clone())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(TORCHSCRIPT, id="torchscript"), pytest.param(ONNX, id="onnx")])
def test_the_size_of_the_published_vit_b(kind, monkeypatch, tmp_path):
    need_onnx(kind)
    write, load, suffix = kind
    torch.manual_seed(3)
    settings = {"variant": "vit_b", "sam_variant": "vit_b", "image_size": 4 * SIZE, "fusion_mode": "none"}
    card = card_of("phase2") | {"image_size": 4 * SIZE, "network": {"refiner": {**REFINER, **settings, "lora_rank": 0}}}
    network = build_network(card)
    save_model(network, tmp_path / "model.pt", card)
    monkeypatch.setattr(export, "parts_of", lambda segmenter: {"model": parts_of(segmenter)["model"]})
    write(tmp_path / "model.pt", tmp_path / "out")
    slope = torch.linspace(0.9, 1, SIZE)
    maps = coarse_maps() * slope * slope[:, None]  # where pixels tie for a point's place, rounding decides
    inputs = torch.cat((images(), maps), 1)[:3].repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        parts = network(inputs, return_parts=True)
    assert (parts.logits.sigmoid() - inputs[:, 1:])[:2].abs().max() > 0.1
    expected = torch.cat((parts.coarse_logits, parts.logits), 1)
    assert_same(load(tmp_path / "out" / f"model{suffix}"), lambda _: expected, inputs)


def test_the_index_tells_what_each_file_takes_and_how_it_was_compared(make_model, tmp_path):
    path, network = make_model("phase2")
    written = export_torchscript(path, tmp_path / "out")
    names = ["MODEL_CARD.md", "decoder.ts", "encoder.ts", "model.ts", "torchscript.json"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(file.name for file in written) == names
    index = json.loads((tmp_path / "out" / "torchscript.json").read_text())
    channels, height, width = network.sam.embedding_shape
    decoder = index["files"]["decoder.ts"]
    embedding = ["batch", channels, height, width]
    assert decoder["inputs"] == {"coarse": ["batch", 1, SIZE, SIZE], "embedding": embedding}
    assert index["files"]["encoder.ts"]["output"] == {"embedding": embedding}
    assert index["files"]["model.ts"]["inputs"] == {"image_and_coarse": ["batch", 2, SIZE, SIZE]}
    assert index["files"]["model.ts"]["output"] == {"logits": ["batch", 2, SIZE, SIZE]}
    sizes = {name: entry["bytes"] for name, entry in index["files"].items()}
    assert sizes["encoder.ts"] < 0.9 * sizes["model.ts"] and sizes["decoder.ts"] < 0.9 * sizes["model.ts"]
    assert all(entry["largest_difference"].keys() == {"1", "3"} for entry in index["files"].values())
    held = {"model.json": ""}
    torch.jit.load(str(tmp_path / "out" / "model.ts"), _extra_files=held)
    assert json.loads(held["model.json"]) == index["card"]
    assert index["card"]["sha256"] == json.loads(path.with_suffix(".json").read_text())["sha256"]


def test_an_onnx_file_holds_the_card_and_takes_any_batch(make_model, tmp_path):
    need_onnx(ONNX)
    import onnx

    path, _ = make_model("phase1")
    export_onnx(path, tmp_path / "out")
    model = onnx.load(str(tmp_path / "out" / "model.onnx"))
    onnx.checker.check_model(model)
    card = json.loads({entry.key: entry.value for entry in model.metadata_props}["model.json"])
    assert card["intended_use"].endswith("Not for clinical use.")
    (given,) = model.graph.input
    assert [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim] == ["batch", 1, SIZE, SIZE]


def test_weights_beside_an_onnx_file_move_with_it_and_are_in_the_index(make_model, monkeypatch, tmp_path):
    """As those of networks above 2 GiB are, here forced for a small one."""
    need_onnx(ONNX)
    save = torch.onnx.ONNXProgram.save
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", lambda self, path: save(self, path, external_data=True))
    path, network = make_model("phase1")
    written = export_onnx(path, tmp_path / "out")
    weights = tmp_path / "out" / "model.onnx.data"
    assert weights in written and weights.stat().st_size > 5 * (tmp_path / "out" / "model.onnx").stat().st_size
    entry = json.loads((tmp_path / "out" / "onnx.json").read_text())["files"]["model.onnx"]
    facts = {"file": weights.name, "bytes": weights.stat().st_size, "sha256": file_sha256(weights)}
    assert entry["data"] == facts
    assert_same(load_onnx(tmp_path / "out" / "model.onnx"), network.eval(), images())


class Branching(nn.Module):
    """A network with a branch on its data, which a trace cannot see."""

    def forward(self, x):
        return x if x.mean() > 0.3 else -x


def test_a_network_whose_branches_a_trace_loses_is_refused_and_leaves_nothing(make_model, monkeypatch, tmp_path):
    sample = torch.linspace(0, 1, 3).view(3, 1, 1, 1)
    monkeypatch.setattr(
        export, "parts_of", lambda _: {"model": Part(Branching().eval(), ("image",), ("logits",), (sample,))}
    )
    with pytest.raises(DataError, match=r"^model\.ts: expected the network's own predictions within 0\.0001, found"):
        export_torchscript(make_model("phase1")[0], tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("write", [export_torchscript, export_safetensors])
def test_files_in_the_way_stay_unless_overwriting_is_allowed(write, make_model, tmp_path):
    path, _ = make_model("phase1")
    first = {file: file.read_bytes() for file in write(path, tmp_path / "out")}
    for file in first:
        file.write_text("mine")
    with pytest.raises(DataError, match="exists; name another folder or allow overwriting"):
        write(path, tmp_path / "out")
    assert {file.read_text() for file in first} == {"mine"}
    assert write(path, tmp_path / "out", overwrite=True) == list(first)
    assert not [file for file in first if file.read_bytes() == b"mine"]


def test_a_place_that_cannot_be_written_to_is_named(make_model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^cannot write to .*file/out \(.*\); free disk space or name another folder$"):
        export_torchscript(make_model("phase1")[0], tmp_path / "file" / "out")


def test_missing_packages_are_named_with_the_command_that_installs_them(make_model, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name.startswith("onnx") else True)
    with pytest.raises(DataError, match="run 'pip install onnx onnxscript onnxruntime'"):
        export_onnx(make_model("phase1")[0], tmp_path)


def test_safetensors_hold_the_same_tensors_and_are_read_back(make_model, tmp_path):
    path, network = make_model("phase2", lora_rank=2)
    export_safetensors(path, tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    again = load_segmenter(weights, device="cpu").network.state_dict()
    state = network.state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in again.items())
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is not the file its card model\.json describes"):
        load_segmenter(weights)


def test_safetensors_never_take_the_card_of_a_model_pt(make_model):
    path, _ = make_model("phase1")
    card = path.with_suffix(".json").read_bytes()
    with pytest.raises(DataError, match=r"holds a model\.pt, which needs its own model\.json; name another"):
        export_safetensors(path, path.parent, overwrite=True)
    assert path.with_suffix(".json").read_bytes() == card


@pytest.mark.parametrize("variant", ["lite_medsam", "mini"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_network_that_is_asked_about_lesions_in_halves(kind, variant, monkeypatch, tmp_path):
    """LiteMedSAM's one embedding and SAM 2's three levels; a box for each image, or points."""
    need_onnx(kind)
    write, load, suffix = kind
    monkeypatch.setitem(PARTS, "adapt", {"sam": {**PARTS["adapt"]["sam"], "variant": variant}})
    path, network = save_untrained(tmp_path / "model.pt", "adapt", labels="lesion")
    network.eval()
    write(path, tmp_path / "out")
    encoder, with_box, with_points = (
        load(tmp_path / "out" / f"{name}{suffix}") for name in ("encoder", "decoder", "decoder_points")
    )
    found = encoder(images())
    levels = [level.clone() for level in (found if isinstance(found, list | tuple) else [found])]
    assert len(levels) == {"lite_medsam": 1, "mini": 3}[variant]
    boxes = torch.tensor([[4.0, 6, 40, 50], [0, 0, 63, 63], [10, 20, 12, 60], [30, 30, 50, 33], [5, 5, 60, 20]])
    points, labels = boxes.view(5, 2, 2), torch.tensor([[1, 0]]).expand(5, -1)
    each = torch.arange(5)
    boxed, pointed = LesionPrompts(each, boxes), LesionPrompts(each, None, points, labels)
    with torch.no_grad():
        expected = [network(images(), prompts=asked) for asked in (boxed, pointed)]
    assert expected[0].sigmoid().std() > 0.01 and not torch.allclose(*expected, atol=0.01)
    assert_same(with_box, lambda *_: expected[0], *levels, boxes)
    assert_same(with_points, lambda *_: expected[1], *levels, points, labels)
