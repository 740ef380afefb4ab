"""What RFMedSAM 2 says of N frames: a mask a step and label."""

from typing import NamedTuple

import torch
from torch import Tensor

from ultrarefiner_monai.networks.label_logits import any_label, each_label
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts
from ultrarefiner_monai.networks.rfmedsam2.boxes import hard_boxes, label_masks


class Steps(NamedTuple):
    """Masks of N frames, from the first step to the last.

    `masks`: step -> logits l_1..l_K (N, K, S, S) of the labels against a background of zero; `heads`: the U-Net's further
    heads for deep supervision, the finest first, (N, K, s, s) each; `names` of the labels, none where there is but one; `boxes`
    (N, K, 4) that SAM was asked with first in place of the U-Net's.
    """

    masks: dict[str, Tensor]
    heads: tuple[Tensor, ...] = ()
    names: tuple[str, ...] = ()
    boxes: Tensor | None = None

    @property
    def outputs(self) -> dict[str, Tensor]:
        """The mask of each step by name: logits (N, 1, S, S) of any label."""
        return {name: any_label(logits) for name, logits in self.masks.items()}

    @property
    def asked(self) -> LesionPrompts | None:
        """The boxes that step 1 was asked with, of all labels that have one; None of the U-Net alone."""
        first, *others = self.masks.values()
        if not others:
            return None
        boxes = hard_boxes(label_masks(first.detach())) if self.boxes is None else self.boxes
        known = ~boxes.isnan().any(2)
        return LesionPrompts(
            torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(known)[known], boxes[known]
        )

    @property
    def last(self) -> Tensor:
        """Logits (N, K, S, S) of the last step."""
        return list(self.masks.values())[-1]

    @property
    def classes(self) -> dict[str, Tensor]:
        """The probability of each label by name as a logit (N, 1, S, S) of its own, from the last step."""
        return dict(zip(self.names, each_label(self.last).split(1, 1), strict=False))
