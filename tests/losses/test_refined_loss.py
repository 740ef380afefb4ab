"""RefinedLoss against hand-computed values."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ultrarefiner_monai.losses import RefinedLoss
from ultrarefiner_monai.losses.dice import dice_loss
from ultrarefiner_monai.losses.refined import change_where_right, true_iou
from ultrarefiner_monai.networks.prompts import Prompts
from ultrarefiner_monai.networks.refiner import Refinement


def refinement(seed: int = 0, size: int = 8) -> tuple[Refinement, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def random(channels: int, side: int) -> Tensor:
        return torch.randn(2, channels, side, side, generator=generator).requires_grad_()

    iou = torch.rand(2, 3, generator=generator).requires_grad_()
    prompts = Prompts(None, None, None, None, torch.zeros(2, dtype=torch.bool))
    parts = Refinement(random(1, size), random(1, size), random(1, size), random(3, size // 2), iou, prompts)
    return parts, (torch.rand(2, 1, size, size, generator=generator) > 0.5).float()


def test_value_is_the_sum_of_its_parts():
    parts, target = refinement()
    loss = RefinedLoss(change_penalty=0.3, iou_weight=2.0)
    bce = [F.binary_cross_entropy(mask.sigmoid(), target) for mask in (parts.logits, parts.mask_logits)]
    dice = [dice_loss(mask, target).mean() for mask in (parts.logits, parts.mask_logits)]
    iou = (parts.iou - true_iou(parts.candidates, target)).square().mean()
    change = change_where_right(parts.mask_logits, parts.coarse_logits, target)
    expected = sum(bce) / 2 + sum(dice) / 2 + 2.0 * iou + 0.3 * change
    torch.testing.assert_close(loss(parts, target), expected)
    assert set(loss.components) == {"bce", "dice", "iou", "change"}
    assert not any(part.requires_grad for part in loss.components.values())


def test_true_iou_by_hand_on_the_targets_grid():
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2] = 1
    candidates = torch.full((1, 3, 4, 4), -5.0)
    candidates[0, 0, :, :2] = 5  # the lesion: 1
    candidates[0, 1, :, 1:3] = 5  # half of it, as much beside it: 4 / 12; the last stays blank: 0
    torch.testing.assert_close(true_iou(candidates, target), torch.tensor([[1.0, 1 / 3, 0.0]]))
    torch.testing.assert_close(true_iou(candidates[..., ::2, :], target)[0, 0], torch.tensor(1.0))


def test_true_iou_of_a_blank_target_is_one_for_a_blank_candidate_only():
    candidates = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    assert true_iou(candidates, torch.zeros(1, 1, 4, 4)).tolist() == [[1.0, 0.0]]


def test_change_counts_only_where_the_coarse_mask_is_right():
    coarse = torch.logit(torch.tensor([0.9, 0.2, 0.9])).view(1, 1, 1, 3)
    mask = torch.logit(torch.tensor([0.6, 0.6, 0.1])).view(1, 1, 1, 3)
    target = torch.tensor([1.0, 0.0, 0.0]).view(1, 1, 1, 3)  # the third coarse pixel is wrong
    assert change_where_right(mask, coarse, target).item() == pytest.approx((0.3 + 0.4) / 2)
    assert change_where_right(mask, coarse, 1 - target).item() == pytest.approx(0.8)


def test_change_of_an_image_without_a_right_pixel_is_zero():
    logits = torch.full((1, 1, 2, 2), 3.0)
    assert change_where_right(-logits, logits, torch.zeros_like(logits)).item() == 0


def test_gradients_reach_the_masks_and_the_iou_head_only():
    parts, target = refinement()
    RefinedLoss(change_penalty=1.0)(parts, target).backward()
    assert parts.logits.grad.norm() > 0
    assert parts.mask_logits.grad.norm() > 0
    assert parts.candidates.grad is None
    assert parts.coarse_logits.grad is None
    expected = 2 * (parts.iou - true_iou(parts.candidates, target)).detach() / 6
    torch.testing.assert_close(parts.iou.grad, expected)


def test_switched_off_parts_have_no_gradient():
    parts, target = refinement()
    RefinedLoss(iou_weight=0.0)(parts, target).backward()
    assert parts.iou.grad.norm() == 0


def test_blank_target_is_finite_and_lower_for_a_blank_mask():
    parts, target = refinement()
    blank = torch.zeros_like(target)
    worse = RefinedLoss()(parts, blank)
    better = RefinedLoss()(parts._replace(logits=parts.logits - 9, mask_logits=parts.mask_logits - 9), blank)
    assert 0 < better < worse


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="change_penalty must be >= 0, found -1"):
        RefinedLoss(change_penalty=-1)
