"""DiceCELoss against hand-computed values."""

import math

import pytest
import torch

from ultrarefiner_monai.losses import DiceCELoss
from ultrarefiner_monai.losses.dice import dice_loss


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_value_by_hand():
    # p = (0.8, 0.5), t = (1, 0): CE = -(ln 0.8 + ln 0.5) / 2; Dice = 1 - (2 * 0.8 + 1) / (1.3 + 1 + 1).
    loss = DiceCELoss()
    value = loss(torch.tensor([logit(0.8), 0.0]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2))
    ce, dice = -(math.log(0.8) + math.log(0.5)) / 2, 1 - 2.6 / 3.3
    assert value.item() == pytest.approx(0.5 * ce + 0.5 * dice, rel=1e-5)
    assert {name: part.item() for name, part in loss.components.items()} == pytest.approx({"ce": ce, "dice": dice})
    assert not any(part.requires_grad for part in loss.components.values())


def test_dice_is_per_image_not_pooled():
    """Regression of the published system: pooled over the batch, a large hit hides a small miss (0.9975 for 0.50)."""
    target = torch.zeros(2, 1, 64, 64)
    target[0, :, :, :50] = 1
    target[1, :, 0, :4] = 1
    logits = torch.where(target > 0, 40.0, -40.0)
    logits[1] = -40.0
    losses = dice_loss(logits, target, smooth=1e-5)
    torch.testing.assert_close(losses, torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)
    assert dice_loss(logits, target).mean() == pytest.approx(0.5, abs=0.11)


def test_blank_target_costs_what_is_predicted():
    blank = torch.zeros(3, 1, 10, 10)
    logits = torch.full_like(blank, -100.0)
    logits[1, 0, 0, :1] = 100.0
    logits[2] = 100.0
    torch.testing.assert_close(dice_loss(logits, blank), torch.tensor([0.0, 0.5, 100 / 101]))


@pytest.mark.parametrize("logit", [-30.0, -9.0, 0.0, 9.0])
def test_blank_target_lowers_what_is_predicted_and_leaves_a_blank_prediction_alone(logit):
    """Normals in training: d/dz (CE / 2) sums to p / 2, d/dz (Dice / 2) to S (1 - p) / (S + 1)^2 / 2 with S = sum of p."""
    logits = torch.full((1, 1, 64, 64), logit, requires_grad=True)
    DiceCELoss()(logits, torch.zeros(1, 1, 64, 64)).backward()
    p = 1 / (1 + math.exp(-logit))
    total = 64 * 64 * p
    expected = 0.5 * p + 0.5 * total * (1 - p) / (total + 1) ** 2
    assert (logits.grad >= 0).all()
    assert logits.grad.sum().item() == pytest.approx(expected, rel=1e-3)
    assert logits.grad.sum().item() < (1e-9 if logit == -30 else 0.625)


def test_gradients():
    logits = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    target = (torch.rand(2, 1, 4, 4) > 0.5).double()
    value = DiceCELoss()(logits, target)
    value.backward()
    step = 1e-3
    moved = DiceCELoss()((logits - step * logits.grad / logits.grad.norm()).detach(), target)
    assert (value - moved).item() == pytest.approx(step * logits.grad.norm().item(), rel=1e-2)


@pytest.mark.parametrize("fill", [-1e4, 1e4])
def test_extreme_logits_stay_finite(fill):
    logits = torch.full((1, 1, 4, 4), fill, requires_grad=True)
    DiceCELoss()(logits, torch.eye(4).view(1, 1, 4, 4)).backward()
    assert logits.grad.isfinite().all()


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"both be \(B, 1, H, W\), found \(1, 1, 4, 4\) and \(1, 4, 4\)"):
        DiceCELoss()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4))
