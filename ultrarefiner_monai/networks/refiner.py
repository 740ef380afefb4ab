"""The refinement stage: coarse probability -> prompts -> Segment Anything -> fused mask."""

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ultrarefiner_monai.networks.fusion import Fusion, FusionMode, safe_logit
from ultrarefiner_monai.networks.prompts import PromptGenerator, Prompts, scale_gradient
from ultrarefiner_monai.networks.sam import Sam
from ultrarefiner_monai.networks.sam.around import AroundSam

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

# Candidates are weighted by softmax(predicted IoU / 0.1): nearly the best one where they differ, differentiable always.
CANDIDATE_TEMPERATURE = 0.1


class Refinement(NamedTuple):
    """All parts of one refinement.

    `logits` (B, 1, H, W): fused, the system's output; `mask_logits` (B, 1, H, W): SAM's own mask before fusion;
    `coarse_logits` (B, 1, H, W); `candidates` (B, M, h, w): SAM's low-resolution logits; `iou` (B, M): predicted,
    M = 3, for LiteMedSAM 4; `prompts`: what SAM was asked with.
    """

    logits: Tensor
    mask_logits: Tensor
    coarse_logits: Tensor
    candidates: Tensor
    iou: Tensor
    prompts: Prompts

    @property
    def outputs(self) -> dict[str, Tensor]:
        """The masks of the stage by name, the baseline first: logits (B, 1, H, W) each."""
        return {"coarse": self.coarse_logits, "refined": self.logits}

    @property
    def asked(self) -> "LesionPrompts":
        """The prompts of the images whose coarse map is not empty, one each; masks are probabilities (M, 1, h, w)."""
        from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

        image = (~self.prompts.empty).nonzero()[:, 0]
        points, labels, boxes, masks = (None if each is None else each[image] for each in self.prompts[:4])
        return LesionPrompts(image, boxes, points, labels, None if masks is None else masks.sigmoid())

    @property
    def quality(self) -> Tensor:
        """IoU with the truth (B,) that SAM predicts for its own mask, before fusion; NaN where the coarse map is empty.

        The candidates' IoUs are weighted as the candidates are in the mask.
        """
        iou = self.iou.float()
        expected = ((iou / CANDIDATE_TEMPERATURE).softmax(1) * iou).sum(1)
        return expected.masked_fill(self.prompts.empty, torch.nan)


class SamRefiner(AroundSam):
    """Refine a coarse mask with Segment Anything.

    Where the coarse map is empty (see PromptGenerator) SAM is asked with the whole image, but the fused output is the
    coarse mask: there is nothing to refine. A map with NaN counts as empty, its NaN as background.

    Args:
        sam: the Segment Anything model.
        prompts: prompt generator, None for the default one.
        fusion: how both masks are combined, see Fusion.
        freeze_image_encoder: keep SAM's image encoder as it is.
    """

    def __init__(
        self,
        sam: Sam,
        prompts: PromptGenerator | None = None,
        fusion: FusionMode | Fusion = "mean",
        freeze_image_encoder: bool = True,
    ) -> None:
        super().__init__(sam, freeze_image_encoder)
        self.prompts = prompts if prompts is not None else PromptGenerator()
        self.fusion = fusion if isinstance(fusion, Fusion) else Fusion(fusion)

    @property
    def settings(self) -> dict[str, str | int | float | bool]:
        """Plain values that decide a prediction beside the weights."""
        prompts = {f"prompt_{name}": value for name, value in self.prompts.settings.items()}
        fusion = {f"fusion_{name}": value for name, value in self.fusion.settings.items()}
        return {"sam_variant": self.sam.variant, "image_size": self.sam.image_size, **prompts, **fusion}

    def refine(
        self,
        image: Tensor,
        coarse: Tensor,
        embedding: Tensor | None = None,
        prompt_gradient_scale: float = 1.0,
        corrections: "LesionPrompts | None" = None,
    ) -> Refinement:
        """Refine `coarse` (B, 1, S, S) probability of `image` (B, 1, S, S).

        Args:
            image: in [0, 1], letterboxed to SAM's input size S.
            coarse: probability on the image's grid.
            embedding: the image's embedding where it is already known (a cache).
            prompt_gradient_scale: factor on the gradient that reaches `coarse` through the prompts.
            corrections: clicks and boxes of a user, at most one prompt an image; they correct `coarse` (see
                `prompts.corrections`), a box is SAM's as well, and clicks are where points are among its prompts.

        Raises:
            ValueError: when image or coarse is not (B, 1, S, S).
        """
        self._check(image, coarse)
        if corrections is not None:
            from ultrarefiner_monai.networks.prompts.corrections import corrected

            coarse = corrected(coarse, corrections)
        embedding = self.embed(image) if embedding is None else embedding
        prompts = self.prompts(scale_gradient(coarse, prompt_gradient_scale), self._mask_size)
        if corrections is not None:
            prompts = with_corrections(prompts, corrections)
        candidates, iou = self.sam.decode(embedding, prompts.points, prompts.labels, prompts.boxes, prompts.masks)
        weights = (iou / CANDIDATE_TEMPERATURE).softmax(1)[:, :, None, None]
        low = (weights * candidates).sum(1, keepdim=True)
        mask = F.interpolate(low, image.shape[2:], mode="bilinear", align_corners=False)
        coarse = coarse.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        coarse_logits = safe_logit(coarse)
        fused = torch.where(prompts.empty.view(-1, 1, 1, 1), coarse_logits, self.fusion(coarse, mask))
        return Refinement(fused, mask, coarse_logits, candidates, iou, prompts)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor | None = None,
        return_parts: bool = False,
        prompts: "LesionPrompts | None" = None,
    ) -> Tensor | Refinement:
        """Fused logits (B, 1, S, S), or the whole Refinement, of `x` (B, 2, S, S) = image, coarse probability.

        `prompts` of a user correct the map, see `refine`.
        """
        if x.ndim != 4 or x.shape[1] != 2:
            raise ValueError(f"the refiner needs two channels (image, coarse probability), found {tuple(x.shape)}")
        parts = self.refine(x[:, :1], x[:, 1:], embedding, corrections=prompts)
        return parts if return_parts else parts.logits

    @property
    def _mask_size(self) -> tuple[int, int]:
        """Grid of SAM's mask prompt and of its masks: four times the embedding's."""
        _, height, width = self.sam.embedding_shape
        return 4 * height, 4 * width

    def _check(self, image: Tensor, coarse: Tensor) -> None:
        size = self.sam.image_size
        for name, value in (("image", image), ("coarse probability", coarse)):
            if value.ndim != 4 or tuple(value.shape[1:]) != (1, size, size):
                raise ValueError(
                    f"the refiner's {name} must be (B, 1, {size}, {size}) for this SAM, found {tuple(value.shape)}; "
                    "letterbox the images to the SAM input size"
                )


def with_corrections(prompts: Prompts, corrections: "LesionPrompts") -> Prompts:
    """A generator's prompts with the boxes of `corrections` in place of its own, and their clicks behind its own points.

    A kind of prompts that it does not give stays away: SAM was trained without it.
    """
    image, boxes, points, labels = corrections.image, prompts.boxes, prompts.points, prompts.labels
    if boxes is not None and corrections.boxes is not None:
        boxes = boxes.index_copy(0, image, corrections.boxes.to(boxes))
    if points is not None and labels is not None and corrections.points is not None and corrections.labels is not None:
        clicks = points.new_zeros(len(points), *corrections.points.shape[1:])
        signs = labels.new_full(clicks.shape[:2], -1)
        points = torch.cat([points, clicks.index_copy(0, image, corrections.points.to(points))], 1)
        labels = torch.cat([labels, signs.index_copy(0, image, corrections.labels.to(labels))], 1)
    return prompts._replace(boxes=boxes, points=points, labels=labels)
