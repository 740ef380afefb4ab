"""A student's loss: features, masks with a weight, masks alone, and what is refused."""

import pytest
import torch
from small_encoder import SmallEncoder, randomised

from ultrarefiner_monai.losses import DistillationLoss, StudentLoss, StudentParts, UltrasoundMaskLoss

IMAGES = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
LOGITS = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
TARGET = (LOGITS > 0.5).float()


def features():
    return [randomised(SmallEncoder(), seed).features(IMAGES) for seed in (0, 1)]


def test_features_and_masks_add_up_by_their_weight():
    found = features()
    loss = StudentLoss(task_weight=0.5)
    total = loss(StudentParts(*found, LOGITS), TARGET)
    expected = DistillationLoss()(*found) + 0.5 * UltrasoundMaskLoss()(LOGITS, TARGET)
    torch.testing.assert_close(total, expected)
    assert len(loss.components) == 9 + 2 and {"sum_1", "adapter_3", "dice", "focal"} <= loss.components.keys()


def test_features_alone_and_masks_alone():
    found, loss = features(), StudentLoss("fpn", task_weight=0.5)
    torch.testing.assert_close(loss(StudentParts(*found), TARGET), DistillationLoss("fpn")(*found))
    assert set(loss.components) == {"map_1", "map_2", "map_3"}
    torch.testing.assert_close(loss(StudentParts(logits=LOGITS), TARGET), UltrasoundMaskLoss()(LOGITS, TARGET))
    assert set(loss.components) == {"dice", "focal"}


def test_what_is_refused():
    with pytest.raises(ValueError, match="task_weight: expected a number of at least 0, found -1"):
        StudentLoss(task_weight=-1)
    with pytest.raises(ValueError, match="expected features of student and teacher, or logits, found none"):
        StudentLoss()(StudentParts(), TARGET)
