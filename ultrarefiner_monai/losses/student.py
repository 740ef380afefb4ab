"""Loss of UniUltra's student."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ultrarefiner_monai.losses.distillation import DistillationLoss, Levels
from ultrarefiner_monai.losses.ultrasound_mask import UltrasoundMaskLoss

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.adapters import EncoderFeatures


class StudentParts(NamedTuple):
    """What a student makes of a batch of B images.

    `student` and `teacher`: features of both encoders, where the student's learns; `logits` (B, 1, S, S): its masks, where
    they are wanted.
    """

    student: "EncoderFeatures | None" = None
    teacher: "EncoderFeatures | None" = None
    logits: Tensor | None = None


class StudentLoss(nn.Module):
    """`DistillationLoss` of the features + `task_weight` x `UltrasoundMaskLoss` of the masks (UniUltra, arXiv 2511.15771).

    Without features, when the decoder learns, the mask loss alone. `components` holds the terms of both by name.

    Args:
        levels: see `DistillationLoss`.
        task_weight: see above; 0 as published.

    Raises:
        ValueError: as `DistillationLoss`, or a negative weight.
    """

    def __init__(self, levels: Levels = "deep", task_weight: float = 0.0) -> None:
        super().__init__()
        if task_weight < 0:
            raise ValueError(f"task_weight: expected a number of at least 0, found {task_weight}")
        self.distillation = DistillationLoss(levels)
        self.masks = UltrasoundMaskLoss()
        self.task_weight = task_weight
        self.components: dict[str, Tensor] = {}

    def forward(self, parts: StudentParts, target: Tensor) -> Tensor:
        """Scalar loss of the parts of a batch, whose true masks are `target` (B, 1, S, S) in {0, 1}.

        Raises:
            ValueError: parts that hold neither features of both nor logits, or as the two losses.
        """
        terms, self.components = [], {}
        if parts.student is not None and parts.teacher is not None:
            terms.append(self.distillation(parts.student, parts.teacher))
            self.components |= self.distillation.components
        if parts.logits is not None:
            terms.append((self.task_weight if terms else 1.0) * self.masks(parts.logits, target))
            self.components |= self.masks.components
        if not terms:
            raise ValueError("parts of a student: expected features of student and teacher, or logits, found none")
        return torch.stack(terms).sum()
