"""A cross-validation of RFMedSAM 2: the U-Net first, then all three steps from it, their masks, scores and cards."""

import csv

import torch

from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.models.card import read_card


def test_three_steps_are_trained_scored_and_predicted(steps_cv):
    cv = steps_cv
    with (cv.folder("joint", 0) / "per_image.csv").open(newline="") as file:
        columns = csv.DictReader(file).fieldnames
    assert {"unet_dice", "step1_dice", "step2_dice"} <= set(columns)
    models = {stage: cv.folder(stage, 0) / "model.pt" for stage in ("unet", "joint")}
    cards = {stage: read_card(path) for stage, path in models.items()}
    assert cards["joint"]["outputs"] == ["unet", "step1", "step2"] and cards["unet"]["outputs"] == ["unet"]
    assert cards["joint"]["network"]["unet"] == cards["unet"]["network"]["unet"]
    for path in models.values():
        segmenter = load_segmenter(path, amp=False, device="cpu")
        assert segmenter.predict(torch.rand(48, 60).numpy()).probability.shape == (48, 60)
