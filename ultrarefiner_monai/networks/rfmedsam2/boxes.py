"""Hard boxes of labels, which carry no gradient. Corners are x1, y1, x2, y2, inclusive, in pixels whose centres are integers."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ultrarefiner_monai.networks.label_logits import with_background


def label_masks(logits: Tensor) -> Tensor:
    """Pixels (N, K, H, W), bool, at which a label is the likeliest, background included, by logits (N, K, H, W)."""
    number = with_background(logits).argmax(1)
    return torch.stack([number == label for label in range(1, logits.shape[1] + 1)], 1)


@torch.no_grad()
def hard_boxes(masks: Tensor) -> Tensor:
    """The tight boxes (N, K, 4) of masks (N, K, H, W), bool; NaN where there is no pixel, which SAM takes for no box."""
    ends = []
    for line in (masks.any(2), masks.any(3)):  # columns, rows
        length = line.shape[2]
        first = line.float().argmax(2)
        ends.append((first, length - 1 - line.flip(2).float().argmax(2)))
    (left, right), (top, bottom) = ends
    boxes = torch.stack([left, top, right, bottom], 2).float()
    return boxes.masked_fill(~masks.flatten(2).any(2)[..., None], torch.nan)


def boxes_of_logits(logits: Tensor, side: int) -> Tensor:
    """Boxes (N, K, 4), in pixels of an image of that side, of what is above 0 in logits (N, K, h, w) of another one."""
    return hard_boxes(F.interpolate(logits.detach(), (side, side), mode="bilinear", align_corners=False) > 0)
