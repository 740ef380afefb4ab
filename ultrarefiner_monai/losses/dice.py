"""Overlap of each image, shared by the losses."""

from torch import Tensor


def dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """`soft_dice_loss` (B,) of each image's logits (B, 1, H, W)."""
    return soft_dice_loss(logits.float().sigmoid(), target, smooth)


def soft_dice_loss(probability: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss (B,) of each image: 1 - (2 sum p t + smooth) / (sum p + sum t + smooth).

    Never pooled over the batch: one large lesion would outvote all small ones. A blank target costs
    1 - smooth / (sum p + smooth): nothing for a blank prediction, nearly 1 for a large one.

    Args:
        probability: (B, 1, H, W).
        target: (B, 1, H, W) in {0, 1}.
        smooth: pixels added to both terms.
    """
    prob, target = probability.flatten(1), target.float().flatten(1)
    overlap = (prob * target).sum(1)
    return 1 - (2 * overlap + smooth) / (prob.sum(1) + target.sum(1) + smooth)


def check_shapes(logits: Tensor, target: Tensor) -> None:
    """Raise ValueError unless both are the same (B, 1, H, W)."""
    if logits.shape != target.shape or logits.ndim != 4 or logits.shape[1] != 1:
        raise ValueError(
            f"logits and target must both be (B, 1, H, W), found {tuple(logits.shape)} and {tuple(target.shape)}"
        )
