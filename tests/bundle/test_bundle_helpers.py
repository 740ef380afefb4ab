"""The helpers that configurations call."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from ultrarefiner_monai.bundle import (
    AutocastInferer,
    OutputsInferer,
    bundle_root,
    coarse_optimiser,
    cosine,
    warm_polynomial,
)
from ultrarefiner_monai.bundle.paths import BUNDLES, project_root
from ultrarefiner_monai.bundle.preflight.data import find_pictures, make_phantom
from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.data.phantom.phantom import generate_phantom
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.networks import SamRefiner, build_sam


def test_bundle_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["run"])
    assert Path(bundle_root("phase2")) == BUNDLES / "phase2"


def test_an_exported_copy_is_its_own_root(tmp_path, monkeypatch):
    configs = tmp_path / "exported" / "configs"
    configs.mkdir(parents=True)
    (configs / "train.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["run", "--config_file", f"['{configs / 'train.json'}']"])
    assert Path(bundle_root("phase2")) == tmp_path / "exported"
    assert project_root(str(tmp_path / "exported")) == tmp_path / "exported"


def test_pictures_of_a_folder_are_sorted_and_a_wrong_folder_is_named(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png"):
        Image.new("L", (3, 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_pictures(str(tmp_path))] == ["a.JPG", "b.png"]
    with pytest.raises(DataError, match="nowhere: no picture there"):
        find_pictures("nowhere")


def test_warm_polynomial_rises_peaks_and_ends_at_zero():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warm_polynomial(optimizer, steps=100, warmup=0.1)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5**0.9)
    assert optimizer.param_groups[0]["lr"] == 0


def test_cosine_is_a_function_of_the_step_alone():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    short = cosine(optimizer, steps=10)
    for _ in range(10):
        optimizer.step()
        short.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    longer = cosine(optimizer, steps=20)
    longer.load_state_dict(short.state_dict())
    longer.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * (1 + math.cos(math.pi * 11 / 20)))


def test_coarse_optimiser_follows_the_paper_for_the_published_network():
    published = coarse_optimiser(nn.Linear(1, 1), "r50_vit_b16")
    assert {key: published.defaults[key] for key in ("lr", "momentum", "weight_decay")} == {
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 1e-4,
    }
    assert isinstance(coarse_optimiser(nn.Linear(1, 1), "tiny", 0.5), torch.optim.AdamW)


def test_autocast_inferer_hands_back_full_precision():
    network = nn.Conv2d(1, 1, 3)
    seen = []
    network.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    output = AutocastInferer(amp=True)(torch.rand(1, 1, 8, 8), network)
    assert (seen, output.dtype) == ([torch.bfloat16], torch.float32)


def test_coarse_refined_inferer_puts_the_coarse_mask_first():
    refiner = SamRefiner(build_sam("tiny", 64)).eval()
    coarse = torch.zeros(1, 1, 64, 64)
    coarse[..., 20:40, 20:40] = 1
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        output = OutputsInferer()(torch.cat((image, coarse), 1), refiner)
        expected = refiner.refine(image, coarse)
    assert output.shape == (1, 2, 64, 64)
    assert torch.equal(output[:, :1], expected.coarse_logits)
    assert torch.equal(output[:, 1:], expected.logits)


def plan(tmp_path, **keys):
    root = tmp_path / "bundles" / "phase1"
    root.mkdir(parents=True, exist_ok=True)
    return Plan(**({"phase": "phase1", "bundle_root": str(root), "dataset": "BUSBRA", "fold": 0, "epochs": 150} | keys))


def test_a_fresh_clone_gets_announced_substitutions(tmp_path, caplog):
    made = plan(tmp_path, coarse_variant="r50_vit_b16")
    assert (made.dataset, made.coarse_variant, made.coarse_size, made.epochs) == ("PHANTOM", "tiny", 128, 12)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"substituted: {line}" for line in made.substitutions]
    assert len(warnings) == 3
    assert (tmp_path / "data" / "PHANTOM" / "cases.csv").is_file()


def test_a_phantom_of_an_older_version_says_how_to_be_rid_of_it(tmp_path):
    generate_phantom(tmp_path / "data" / "PHANTOM", seed=1)
    with pytest.raises(SystemExit) as caught:
        plan(tmp_path, coarse_variant="r50_vit_b16")
    assert f"remove {tmp_path / 'data' / 'PHANTOM'} to have the phantom made anew" in str(caught.value)


def test_an_interrupted_phantom_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(folder):
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("ultrarefiner_monai.bundle.preflight.data.generate_phantom", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "PHANTOM")
    assert not list(tmp_path.iterdir())


def test_real_data_without_phase_1_keep_the_published_coarse_network(tmp_path, monkeypatch):
    monkeypatch.setattr(Plan, "_resolve_data", lambda plan: False)
    made = plan(tmp_path, phase="phase3", coarse_variant="r50_vit_b16", variant="tiny")
    assert (made.coarse_variant, made.coarse_size) == ("r50_vit_b16", 224)
    assert len(made.substitutions) == 2


def test_a_trained_model_brings_its_own_sam_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(Plan, "_resolve_data", lambda plan: False)
    made = plan(tmp_path, phase="phase3", coarse_variant="tiny", variant="vit_b", mode="evaluate")
    assert (made.variant, made.sam_weights, made.substitutions) == ("vit_b", None, [])


def test_strict_turns_a_substitution_into_an_error(tmp_path):
    with pytest.raises(SystemExit, match="no data root for BUSBRA"):
        plan(tmp_path, strict=True)
    assert not (tmp_path / "data").exists()


def test_naming_a_data_root_is_strict(tmp_path, small_release):
    root = tmp_path / "bundles" / "phase3"
    with pytest.raises(SystemExit, match=r"no phase1 model at .*; train phase1 on fold 0 first"):
        plan(tmp_path, phase="phase3", bundle_root=str(root), **small_release)


def test_an_incomplete_release_is_counted(tmp_path, small_release, caplog):
    import shutil

    folder = tmp_path / "PHANTOM"
    shutil.copytree(small_release["data_root"], folder)
    whole = plan(tmp_path, **small_release)
    gone = whole.content.split("val", 0)[0]
    (folder / gone["image"]).unlink()
    keys = small_release | {"data_root": str(folder)}
    with pytest.raises(SystemExit, match=f"{gone['id']}.*missing"):
        plan(tmp_path, **keys)
    partial = plan(tmp_path, allow_missing=True, **keys)
    assert partial.absent == {"fold 0": 1}
    assert len(partial.items("val")) == len(whole.items("val")) - 1
    assert "absent items: fold 0 1" in caplog.text


def test_medsam_lite_has_no_points_unless_asked(tmp_path, small_release):
    keys = {**small_release, "phase": "phase2", "sam_checkpoint": "random", "coarse_predictions": str(tmp_path)}
    assert plan(tmp_path, variant="lite_medsam", **keys).points == 0
    assert plan(tmp_path, variant="tiny", **keys).points == 1
    assert plan(tmp_path, variant="lite_medsam", points=2, **keys).points == 2
