"""Loss of the coarse network (phase 1)."""

import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.losses.dice import check_shapes, dice_loss


class DiceCELoss(nn.Module):
    """0.5 cross-entropy + 0.5 Dice (Chen et al., TransUNet, arXiv 2102.04306), Dice per image and then averaged.

    `components` holds the last call's `ce` and `dice`, detached.
    """

    def __init__(self) -> None:
        super().__init__()
        self.components: dict[str, Tensor] = {}

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of `logits` (B, 1, H, W) against `target` (B, 1, H, W) in {0, 1}."""
        check_shapes(logits, target)
        ce = F.binary_cross_entropy_with_logits(logits.float(), target.float())
        dice = dice_loss(logits, target).mean()
        self.components = {"ce": ce.detach(), "dice": dice.detach()}
        return 0.5 * ce + 0.5 * dice
