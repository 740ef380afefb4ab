"""UniUltra's mask loss: values by hand, gradients, half precision."""

import math

import pytest
import torch

from ultrarefiner_monai.losses import UltrasoundMaskLoss


def target():
    truth = torch.zeros(2, 1, 6, 8)
    truth[0, :, 1:4, 2:7] = 1
    return truth


def test_values_by_hand():
    loss = UltrasoundMaskLoss()
    assert loss(40 * (2 * target() - 1), target()).item() == pytest.approx(0, abs=1e-6)
    total = loss(torch.zeros(2, 1, 6, 8), target())
    dice = 1 - (2 * 7.5 + 1) / (48 + 15 + 1)  # 15 of 96 pixels, over both images at once
    assert loss.components["dice"].item() == pytest.approx(dice)
    assert 0.2 * loss.components["focal"].item() == pytest.approx(0.027726, abs=1e-6)
    assert total.item() == pytest.approx(0.8 * dice + 0.2 * 0.8 * 0.25 * math.log(2))


def test_blank_truth_and_blank_mask_cost_nothing():
    blank = torch.zeros(1, 1, 4, 4)
    assert UltrasoundMaskLoss()(blank - 40, blank).item() == pytest.approx(0, abs=1e-6)
    assert UltrasoundMaskLoss()(blank + 40, blank).item() > 0.7


def test_gradients():
    logits = torch.randn(2, 1, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(UltrasoundMaskLoss(), (logits.requires_grad_(), target()))


def test_half_precision_is_left_first():
    """Where the mean cross-entropy of bfloat16 logits sits on its last bit, and probabilities saturate."""
    logits = (12 * (2 * target() - 1)).bfloat16().requires_grad_()
    loss = UltrasoundMaskLoss()(logits, target())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(UltrasoundMaskLoss()(logits.double(), target()).item(), abs=1e-7)
    loss.backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().max() > 0


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"must both be \(B, 1, H, W\)"):
        UltrasoundMaskLoss()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))
