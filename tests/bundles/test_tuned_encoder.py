"""Phases 2 and 3 with SAM's image encoder tuned, on augmented views that the coarse map follows."""

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from small_releases import TINY

from ultrarefiner_monai.cross_validation.tasks import run_bundle
from ultrarefiner_monai.data.predictions.maps import write_map
from ultrarefiner_monai.shipped import BUNDLES


def keys_of_stage(stage, small_cv, small_release, folder):
    """Keys of one epoch of a stage that goes on from the small cross-validation, fold 0."""
    before = {"phase2": {"coarse_predictions": str(small_cv.out / "phase1")}}
    before["phase3"] = {
        f"{name}_checkpoint": str(small_cv.folder(name, 0) / "model.pt") for name in ("phase1", "phase2")
    }
    where = {"output_dir": str(folder / "run"), "tracking_uri": f"sqlite:///{folder}/m.db", "log_model": False}
    return {**small_release, **TINY[stage], "cache_embeddings": True, "epochs": 1, **before[stage], **where}


@pytest.mark.parametrize("stage", ["phase2", "phase3"])
def test_the_encoder_learns_where_it_is_tuned_and_its_embeddings_are_not_cached(
    stage, small_cv, small_release, tmp_path, monkeypatch
):
    monkeypatch.setattr("ultrarefiner_monai.bundle.preflight.request.project_root", lambda _: tmp_path)
    weights = {}
    for encoder, views in (("frozen", 2), ("tuned", 1000)):
        keys = keys_of_stage(stage, small_cv, small_release, tmp_path / encoder)
        run_bundle(stage, "train", **keys, encoder=encoder, views=views)
        weights[encoder] = torch.load(Path(keys["output_dir"]) / "model.pt", weights_only=True)
    encoder = [name for name in weights["frozen"] if "image_encoder" in name and "running" not in name]
    changed = [not torch.equal(weights["frozen"][name], weights["tuned"][name]) for name in encoder]
    assert sum(changed) > 0.9 * len(encoder) > 0
    other = "mask_decoder.iou_token.weight"
    assert any(name.endswith(other) for name in weights["tuned"])
    lines = (tmp_path / "tuned/run/metrics.jsonl").read_text().splitlines()
    assert any("val_refined_dice" in json.loads(line) for line in lines)
    cached = len(list((tmp_path / "runs/embeddings").rglob("*.npz")))
    assert cached > 0  # of the frozen encoder, views among them, and no further ones
    run_bundle(stage, "train", **{**keys, "output_dir": str(tmp_path / "again")}, encoder="tuned", views=1)
    assert len(list((tmp_path / "runs/embeddings").rglob("*.npz"))) == cached


def test_a_view_moves_image_mask_and_coarse_map_alike(small_cv, small_release, tmp_path):
    """A coarse map that is the true mask stays it, in every view, while the image changes."""
    keys = keys_of_stage("phase2", small_cv, small_release, tmp_path)
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLES / "phase2/configs/train.json"))
    parser.update({**keys, "views": 6, "real_ratio": 1.0, "bundle_root": str(BUNDLES / "phase2")})
    item = {**parser.get_parsed_content("plan").items("train")[0]}
    from ultrarefiner_monai.transforms import LoadMaskd

    write_map(tmp_path / "truth.nii.gz", LoadMaskd("label")(item)["label"][0].numpy())
    item["coarse"] = str(tmp_path / "truth.nii.gz")
    transform = parser.get_parsed_content("train#preprocessing")
    seen = {}
    for seed in range(40):
        transform.set_random_state(seed)
        found = transform(item)
        seen[found["view"]] = found
    assert len(seen) == 6
    for found in seen.values():
        told, true = found["coarse"] >= 0.5, found["label"] > 0
        assert 2 * (told & true).sum() / (told.sum() + true.sum()) > 0.95
    plain = seen.pop(0)
    assert all((found["image"] - plain["image"]).abs().mean() > 0.01 for found in seen.values())


def test_a_tuned_encoder_and_lora_are_refused_together(small_cv, small_release, tmp_path):
    keys = keys_of_stage("phase2", small_cv, small_release, tmp_path)
    with pytest.raises(SystemExit, match="encoder tuned with lora_rank 2: LoRA is there to leave the encoder as it is"):
        run_bundle("phase2", "train", **{**keys, "encoder": "tuned", "lora_rank": 2})
