"""What a training in a server learns from, and which models stay; no server needed."""

import json
import logging
import os
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image
from torch import nn

from ultrarefiner_monai.deploy.monailabel.training import KeepBetter, MeanDice, keep_model, usable
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.handlers import load_model, save_model


class Scores:
    """An evaluator that comes to one score after the other."""

    def __init__(self, *scores):
        self.scores = list(scores)
        self.state = SimpleNamespace(metrics={})

    def run(self):
        self.state.metrics["dice"] = self.scores.pop(0)


@pytest.fixture
def bundle(tmp_path):
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    card = {"phase": "phase1", "coarse": {"variant": "tiny", "size": 64}, "dataset": "BUSI", "epoch": 9}
    save_model(network, tmp_path / "models" / "model.pt", card)
    return tmp_path


def train(bundle, evaluator, pictures, epochs):
    """A training whose weight is the number of its epochs."""
    network = nn.Linear(1, 1, bias=False)
    trainer = Engine(lambda engine, batch: nn.init.constant_(network.weight, float(engine.state.epoch)))
    KeepBetter(str(bundle), network, evaluator, pictures).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    kept = nn.Linear(1, 1, bias=False)
    return load_model(kept, bundle / "models" / "model.pt"), kept.weight.item()


def test_a_training_keeps_only_what_is_better_than_the_model_it_started_from(bundle):
    before = json.loads((bundle / "models" / "model.json").read_text())
    card, weight = train(bundle, Scores(0.4, 0.3, 0.4, 0.6, 0.5), pictures=2, epochs=4)
    assert weight == card["epoch"] == 3
    assert card["metric"] == {"dice": 0.6}
    assert card["started_from"] == before["sha256"]
    assert card["dataset"] == "BUSI"


def test_a_training_that_betters_nothing_leaves_the_model_alone(bundle):
    card, weight = train(bundle, Scores(0.4, 0.3, 0.4), pictures=2, epochs=2)
    assert (weight, card["epoch"]) == (0.0, 9)
    assert "started_from" not in card


def test_a_training_without_validation_pictures_keeps_its_last_model(bundle):
    card, weight = train(bundle, Scores(), pictures=0, epochs=2)
    assert weight == card["epoch"] == 2
    assert card["metric"] == {"dice": None}


def test_dice_is_that_of_the_thresholded_logits_and_one_for_two_blank_masks():
    logits = torch.tensor([[[[3.0, 0.5], [-1.0, -1.0]]], [[[-1.0, -1.0], [-1.0, -1.0]]]])
    label = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    MeanDice().attach(scored := Engine(lambda engine, batch: {"pred": logits[:batch], "label": label[:batch]}), "dice")
    assert scored.run([2, 1]).metrics["dice"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)


def test_the_model_before_a_training_is_kept_under_its_date_once(bundle):
    model = bundle / "models" / "model.pt"
    before = model.read_bytes(), model.with_suffix(".json").read_bytes()
    os.utime(model, (1_700_000_000, 1_700_000_000))  # 14 November 2023, 22:13:20 UTC
    train(bundle, Scores(0.4, 0.5, 0.6, 0.3), pictures=2, epochs=3)
    (kept,) = (path for path in model.parent.iterdir() if path.is_dir())
    assert kept.name == f"2023-11-14T22-13-20Z_{json.loads(before[1])['sha256'][:8]}"
    assert ((kept / "model.pt").read_bytes(), (kept / "model.json").read_bytes()) == before
    assert model.read_bytes() != before[0]
    train(bundle, Scores(0.6, 0.5), pictures=2, epochs=1)  # replaces nothing
    train(bundle, Scores(), pictures=0, epochs=1)
    assert len([path for path in model.parent.iterdir() if path.is_dir()]) == 2


def test_a_model_that_was_put_back_is_not_kept_twice(bundle):
    assert keep_model(bundle) == keep_model(bundle)


def test_without_space_for_the_old_model_it_stays(bundle, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    before = (bundle / "models" / "model.pt").read_bytes()
    with pytest.raises(DataError, match=r"cannot keep .*model\.pt as .*No space left on device.*nothing is lost"):
        train(bundle, Scores(), pictures=0, epochs=1)
    assert (bundle / "models" / "model.pt").read_bytes() == before


def test_labels_that_do_not_lie_on_their_image_are_left_out_with_a_warning(tmp_path, caplog):
    mask = np.zeros((30, 50), np.uint8)
    mask[3:9, 4:40] = 1
    Image.fromarray(mask * 100).save(tmp_path / "image.png")
    Image.fromarray(mask).save(tmp_path / "fits.png")
    nibabel.save(nibabel.Nifti1Image(mask.T[..., None], np.eye(4)), tmp_path / "fits.nii.gz")
    Image.fromarray(mask.T).save(tmp_path / "turned.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = ("fits.png", "turned.png", "fits.nii.gz", "broken.png", "missing.png")
    items = [{"image": str(tmp_path / "image.png"), "label": str(tmp_path / name)} for name in names]
    with caplog.at_level(logging.WARNING):
        assert usable(items) == [items[0], items[2]]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert said[0] == (
        f"left out of the training: {tmp_path}/turned.png: a label of 30x50, its image has 50x30; "
        "save it at the image's own size"
    )
    with pytest.raises(DataError, match="no label to learn from"):
        usable(items[1:2])
