"""Loss of UniUltra's adapted SAM 2."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.losses.dice import check_shapes

DICE_SHARE, FOCAL_SHARE = 0.8, 0.2
ALPHA, GAMMA = 0.8, 2  # of the focal loss
SMOOTH = 1.0  # pixels


class UltrasoundMaskLoss(nn.Module):
    """0.8 Dice + 0.2 Focal of UniUltra's public code (arXiv 2511.15771), both over the whole batch as one image.

    Dice = 1 - (2 sum p t + 1) / (sum p + sum t + 1). Focal = 0.8 (1 - exp(-b))^2 b with b the mean cross-entropy, so
    that a batch, not a pixel, is easy or hard (after Lin et al., ICCV 2017). From logits, in float32 at least.

    `components` holds the last call's `dice` and `focal` before weighting, detached.
    """

    def __init__(self) -> None:
        super().__init__()
        self.components: dict[str, Tensor] = {}

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of `logits` (B, 1, H, W) against `target` (B, 1, H, W) in {0, 1}.

        Raises:
            ValueError: other shapes.
        """
        check_shapes(logits, target)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        target = target.to(logits.dtype)
        prob = logits.sigmoid()
        dice = 1 - (2 * (prob * target).sum() + SMOOTH) / (prob.sum() + target.sum() + SMOOTH)
        entropy = F.binary_cross_entropy_with_logits(logits, target)
        focal = ALPHA * (-torch.expm1(-entropy)) ** GAMMA * entropy
        self.components = {"dice": dice.detach(), "focal": focal.detach()}
        return DICE_SHARE * dice + FOCAL_SHARE * focal
