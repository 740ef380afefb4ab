"""Loss of RFMedSAM 2."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.losses.dice import soft_dice_loss

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.rfmedsam2 import Steps


def supervision_weights(heads: int) -> list[float]:
    """Weights of `heads` heads, the finest first: each half of the one before, 1 in all (nnU-Net's)."""
    return [2.0 ** (heads - 1 - number) / (2**heads - 1) for number in range(heads)]


def mask_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of softmax [0, l_1, .., l_K] plus the labels' mean soft Dice loss, each the mean over images.

    Args:
        logits: l_1..l_K (N, K, H, W).
        label: (N, h, w), 0 for background, else 1..K; of another size it is resized by nearest neighbours.
    """
    logits = logits.float()
    if label.shape[1:] != logits.shape[2:]:
        label = F.interpolate(label[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
    planes = F.pad(logits, (0, 0, 0, 0, 1, 0))  # background is zero
    probability = planes.softmax(1)
    dice = [soft_dice_loss(probability[:, [k]], label[:, None] == k) for k in range(1, planes.shape[1])]
    return F.cross_entropy(planes, label) + torch.stack(dice).mean()


class StepsLoss(nn.Module):
    """Sum of the `mask_loss` of each step, the U-Net's with deep supervision (Xie et al., arXiv 2502.02741, section 3.4).

    `components` holds the last call's terms by step, detached and without their weights.

    Args:
        weights: of the steps, in their order.

    Raises:
        ValueError: a negative weight.
    """

    def __init__(self, weights: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        super().__init__()
        self.weights = tuple(weights)
        if min(self.weights) < 0:
            raise ValueError(f"loss_weights must not be negative, found {list(self.weights)}")
        self.components: dict[str, Tensor] = {}

    def forward(self, parts: "Steps", target: Tensor) -> Tensor:
        """Scalar loss against `target` (N, 1, S, S): 0 is background, k in 1..K a pixel of label k.

        Raises:
            ValueError: another shape, or a label above K.
        """
        label = target[:, 0].long()
        batch, labels, *size = parts.last.shape
        if tuple(target.shape) != (batch, 1, *size):
            raise ValueError(f"target must be {(batch, 1, *size)}, found {tuple(target.shape)}")
        if not torch.compiler.is_compiling() and label.max() > labels:
            raise ValueError(f"target must be in 0..{labels}, found {int(label.max())}")
        losses = {name: mask_loss(logits, label) for name, logits in parts.masks.items()}
        share, *shares = supervision_weights(1 + len(parts.heads))
        losses["unet"] = share * losses["unet"]
        for share, logits in zip(shares, parts.heads, strict=True):
            losses["unet"] = losses["unet"] + share * mask_loss(logits, label)
        self.components = {name: loss.detach() for name, loss in losses.items()}
        return torch.stack([weight * loss for weight, loss in zip(self.weights, losses.values(), strict=False)]).sum()
