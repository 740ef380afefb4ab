"""Loss of RFMedSAM 2: weights of the heads, one label as a lesion, labels swapped, the truth for coarser heads, the schedule."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ultrarefiner_monai.bundle.optimizers import warm_polynomial
from ultrarefiner_monai.losses import DiceCELoss, StepsLoss
from ultrarefiner_monai.losses.rfmedsam2 import mask_loss, supervision_weights
from ultrarefiner_monai.networks.rfmedsam2 import Steps


@pytest.fixture
def logits():
    return torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def label():
    return torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1))


def test_weights_of_heads_halve_and_sum_to_one():
    assert supervision_weights(4) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert supervision_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert supervision_weights(1) == [1.0]


def test_one_label_is_a_lesion(logits, label):
    """Twice UltraRefiner's coarse loss, which has half of each term."""
    lesion = (label > 0).long()
    expected = 2 * DiceCELoss()(logits[:, :1], lesion[:, None])
    torch.testing.assert_close(mask_loss(logits[:, :1], lesion), expected)


def test_swapped_labels_swap_the_channels(logits, label):
    swapped = torch.tensor([0, 2, 1])[label]
    torch.testing.assert_close(mask_loss(logits.flip(1), swapped), mask_loss(logits, label))
    assert not torch.isclose(mask_loss(logits.flip(1), label), mask_loss(logits, label))


def test_coarser_heads_see_the_nearest_truth(logits):
    label = torch.zeros(1, 8, 8, dtype=torch.long)
    label[:, ::2] = 1  # what an average would make a half of
    head = logits[:1, :1, :4, :4]
    nearest = F.interpolate(label[:, None].float(), (4, 4), mode="nearest-exact")[:, 0].long()
    assert nearest.unique().tolist() in ([0], [1])
    torch.testing.assert_close(mask_loss(head, label), mask_loss(head, nearest))


def test_sum_of_the_steps(logits, label):
    parts = Steps({"unet": logits, "step1": 2 * logits, "step2": -logits}, (logits[:, :, ::2, ::2],))
    loss = StepsLoss((1.0, 0.5, 2.0))
    unet = 2 / 3 * mask_loss(logits, label) + 1 / 3 * mask_loss(logits[:, :, ::2, ::2], label)
    expected = unet + 0.5 * mask_loss(2 * logits, label) + 2 * mask_loss(-logits, label)
    torch.testing.assert_close(loss(parts, label[:, None]), expected)
    torch.testing.assert_close(loss.components["unet"], unet)
    assert loss.components.keys() == parts.masks.keys()
    alone = Steps({"unet": logits})
    torch.testing.assert_close(loss(alone, label[:, None]), mask_loss(logits, label))


def test_what_is_refused(logits, label):
    with pytest.raises(ValueError, match="must not be negative, found"):
        StepsLoss((1, -1, 1))
    with pytest.raises(ValueError, match=r"target must be in 0\.\.1, found 2"):
        StepsLoss()(Steps({"unet": logits[:, :1]}), label[:, None])
    with pytest.raises(ValueError, match=r"target must be \(2, 1, 8, 8\), found \(2, 8, 8\)"):
        StepsLoss()(Steps({"unet": logits}), label)


def test_polynomial_rates_to_the_last_digit():
    rates = {
        0: 1e-3,
        1: 9.990999550e-4,
        100: 9.095325761e-4,
        250: 7.718895067e-4,
        500: 5.358867313e-4,
        999: 1.995262315e-6,
    }
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1e-3)
    schedule = warm_polynomial(optimizer, 1000, 0)
    for epoch, rate in {**rates, 1000: 0.0}.items():
        schedule.last_epoch = epoch - 1
        optimizer.step()
        schedule.step()
        assert schedule.get_last_lr()[0] == pytest.approx(rate, rel=1e-9, abs=1e-15)
