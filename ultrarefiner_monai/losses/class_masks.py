"""Loss of AutoMedSAM."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ultrarefiner_monai.losses.dice import dice_loss
from ultrarefiner_monai.losses.uncertainty import UncertaintyLoss, Weighting

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.automedsam import ClassMasks
    from ultrarefiner_monai.networks.prompts.class_prompts import PromptEmbeddings

DENSE_SHARE = 0.1  # of the dense embedding in the transfer term, which has 2048 times as many values as the tokens
TERMS = ("pixel", "region", "distribution")


class ClassMaskLoss(UncertaintyLoss):
    """Pixels, regions, the distribution over classes, the image's class, and what SAM's own prompt encoder knows.

    Weighed by uncertainty:

    - pixel: mean over the classes of the binary cross-entropy of l_k against the pixels of class k (none for an absent one);
    - region: soft Dice loss of the lesion, whatever its class, and of the class that is present;
    - distribution: cross-entropy of softmax [0, l_1, .., l_K];
    - class: cross-entropy of the image's class, as `ClassMasks.class_evidence` says it over the true lesion; zero for a blank
      image. In the terms before it a class is told by single pixels, of which a lesion has few;
    - transfer: mean squared difference of the present class's tokens and those of the true box, and 0.1 times that of its
      dense embedding and the true mask's, on the prompts' grid; zero for a blank image, which has neither.

    Args:
        teacher: true boxes (B, 4) and true masks (B, 1, H, W) -> prompt embeddings, `AutoMedSam.teach`; None: no transfer.
        transfer: factor on the transfer term; 0: none, and no teacher is asked.
        image_class: factor on the class term; 0: none, as for a network of one class, which it would teach nothing.
        weighting: of the terms, see UncertaintyLoss.
        fixed: weights for "fixed" weighting.

    Raises:
        ValueError: as UncertaintyLoss.
    """

    def __init__(
        self,
        teacher: "Callable[[Tensor, Tensor], PromptEmbeddings] | None" = None,
        transfer: float = 1.0,
        image_class: float = 0.0,
        weighting: Weighting = "log1p",
        fixed: Mapping[str, float] | None = None,
    ) -> None:
        for name, factor in (("transfer", transfer), ("image_class", image_class)):
            if factor < 0:
                raise ValueError(f"{name} must be >= 0, found {factor}")
        self.teacher = teacher if transfer > 0 else None
        self.transfer = transfer
        self.image_class = image_class
        terms = [*TERMS]
        if image_class > 0:
            terms.append("class")
        if self.teacher is not None:
            terms.append("transfer")
        super().__init__(terms, weighting, fixed)

    def forward(self, parts: "ClassMasks", target: Tensor) -> Tensor:
        """Scalar loss against `target` (B, 1, S, S): 0 is background, k in 1..K a pixel of class k; one class an image.

        Raises:
            ValueError: another shape, or a class above K.
        """
        logits, lesion = parts.logits.float(), parts.lesion.float()
        batch, classes = logits.shape[:2]
        if target.shape != lesion.shape:
            raise ValueError(f"target must be {tuple(lesion.shape)}, found {tuple(target.shape)}")
        label = target[:, 0].long()
        present = label.amax((1, 2))  # (B,), 0 for a blank image
        if not torch.compiler.is_compiling() and present.max() > classes:
            raise ValueError(f"target must be in 0..{classes}, found {int(present.max())}")
        planes = torch.stack([label == number for number in range(1, classes + 1)], 1).float()
        chosen = (present - 1).clamp(min=0)
        rows = torch.arange(batch, device=label.device)
        own = logits[rows, chosen][:, None]
        losses = [
            F.binary_cross_entropy_with_logits(logits, planes),
            (dice_loss(lesion, (target > 0).float()) + dice_loss(own, planes[rows, chosen][:, None])).mean(),
            F.cross_entropy(parts.with_background.float(), label),
        ]
        truth = target > 0
        if self.image_class > 0:
            missed = F.cross_entropy(parts.class_evidence(truth), chosen, reduction="none")
            losses.append(self.image_class * (missed * (present > 0)).mean())
        if self.teacher is not None:
            taught = self.teacher(mask_boxes(truth), truth)
            distance = _distance(parts.sparse[rows, chosen], taught.sparse)
            dense = F.adaptive_avg_pool2d(taught.dense, (parts.dense.shape[3], parts.dense.shape[4]))
            distance = distance + DENSE_SHARE * _distance(parts.dense[rows, chosen], dense)
            losses.append(self.transfer * (distance * (present > 0)).mean())
        return self.weigh(losses)


def _distance(found: Tensor, taught: Tensor) -> Tensor:
    """Mean squared difference (B,) of each image's values."""
    return (found.float() - taught.float()).square().flatten(1).mean(1)


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes (B, 4) x1, y1, x2, y2 around the pixels of `masks` (B, 1, H, W), inclusive; of a blank one zeros."""
    columns, rows = masks[:, 0].any(1), masks[:, 0].any(2)
    ends = []
    for line in (columns, rows):
        length = line.shape[1]
        first = line.float().argmax(1)
        last = length - 1 - line.flip(1).float().argmax(1)
        ends.append((first, last))
    (left, right), (top, bottom) = ends
    boxes = torch.stack([left, top, right, bottom], 1).float()
    return boxes * masks.flatten(1).any(1)[:, None]
