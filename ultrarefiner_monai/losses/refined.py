"""Loss of the refinement stage (phase 2)."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.losses.dice import check_shapes, dice_loss

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.refiner import Refinement


class RefinedLoss(nn.Module):
    """Segmentation loss of the fused output and of SAM's own mask, supervision of SAM's predicted IoU, change penalty.

    loss = mean over both masks of (BCE + Dice) + iou_weight * mean (predicted IoU - true IoU)^2
           + change_penalty * mean `|sigmoid(z) - p|` over the pixels where the coarse probability p is already right,

    z being SAM's own logits. The IoU head weights the candidates, so it degenerates unless it is supervised. p is
    detached in the penalty: it holds the refiner back and does not pull the coarse mask along.

    `components` holds the last call's `bce`, `dice`, `iou` and `change` before weighting, detached.

    Args:
        change_penalty: weight of the change penalty, 0 for none.
        iou_weight: weight of the IoU supervision.

    Raises:
        ValueError: for a negative weight.
    """

    def __init__(self, change_penalty: float = 0.0, iou_weight: float = 1.0) -> None:
        super().__init__()
        for name, value in (("change_penalty", change_penalty), ("iou_weight", iou_weight)):
            if value < 0:
                raise ValueError(f"{name} must be >= 0, found {value}")
        self.change_penalty = change_penalty
        self.iou_weight = iou_weight
        self.components: dict[str, Tensor] = {}

    def forward(self, parts: "Refinement", target: Tensor) -> Tensor:
        """Scalar loss of a Refinement against `target` (B, 1, H, W) in {0, 1}."""
        check_shapes(parts.logits, target)
        target = target.float()
        masks = [parts.logits.float(), parts.mask_logits.float()]
        bce = torch.stack([F.binary_cross_entropy_with_logits(mask, target) for mask in masks]).mean()
        dice = torch.stack([dice_loss(mask, target).mean() for mask in masks]).mean()
        iou = F.mse_loss(parts.iou.float(), true_iou(parts.candidates, target))
        change = change_where_right(parts.mask_logits, parts.coarse_logits, target)
        self.components = {"bce": bce.detach(), "dice": dice.detach(), "iou": iou.detach(), "change": change.detach()}
        return bce + dice + self.iou_weight * iou + self.change_penalty * change


@torch.no_grad()
def true_iou(candidates: Tensor, target: Tensor) -> Tensor:
    """IoU (B, M) of the `candidates` (B, M, h, w), enlarged to the target's grid and cut at logit 0, with `target`.

    Both blank: 1.
    """
    masks = F.interpolate(candidates.float(), target.shape[2:], mode="bilinear", align_corners=False) > 0
    truth = target > 0.5
    intersection = (masks & truth).sum((2, 3))
    union = (masks | truth).sum((2, 3))
    return torch.where(union == 0, 1.0, intersection / union.clamp(min=1))


def change_where_right(mask_logits: Tensor, coarse_logits: Tensor, target: Tensor) -> Tensor:
    """Mean over images of the mean |sigmoid(mask) - coarse| where the coarse mask (cut at 0.5) equals the target."""
    coarse = coarse_logits.detach().float().sigmoid()
    right = ((coarse >= 0.5) == (target > 0.5)).flatten(1)
    change = (mask_logits.float().sigmoid() - coarse).abs().flatten(1)
    return ((change * right).sum(1) / right.sum(1).clamp(min=1)).mean()
