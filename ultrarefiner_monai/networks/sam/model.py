"""Segment Anything for batches of letterboxed ultrasound images (Kirillov et al., ICCV 2023)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam.decoder import MaskDecoder, PromptEncoder
from ultrarefiner_monai.networks.sam.pixels import check_pixels

MULTIMASK_TOKENS = slice(1, 4)
ALL_TOKENS = slice(0, 4)


class Sam(nn.Module):
    """Image encoder, prompt encoder and mask decoder with the parameter names of the published checkpoints.

    Args:
        image_encoder: (B, 3, S, S) -> (B, C, h, w).
        prompt_encoder: prompts in pixels of the S x S image.
        mask_decoder: one prompt set per image.
        variant: name `build_sam` knows it by.
        scale_pixels: the encoder's pixel scaling, (B, 1, S, S) in [0, 1] -> (B, 3, S, S) with zero padding.
        candidates: which of the four mask tokens are candidates unless `decode` is told otherwise. SAM trained
            1..3 for ambiguous prompts and 0 for clear ones. LiteMedSAM trained token 0 alone: the other three come last
            by their predicted IoU until fine-tuning makes something of them.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        *,
        variant: str,
        scale_pixels: Callable[[Tensor], Tensor],
        candidates: slice = MULTIMASK_TOKENS,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.variant = variant
        self.scale_pixels = scale_pixels
        self.candidates = candidates

    @property
    def image_size(self) -> int:
        """Side S of the input in pixels."""
        return self.prompt_encoder.input_image_size[0]

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one image's embedding."""
        return (self.prompt_encoder.embed_dim, *self.prompt_encoder.image_embedding_size)

    def normalise(self, image: Tensor) -> Tensor:
        """Scale the pixels of (B, 1, S, S) in [0, 1] for the encoder, (B, 3, S, S); the only place that does.

        Trailing rows and columns of exact zeros are the letterbox's padding and are zero afterwards, too.

        Raises:
            ValueError: another shape, or pixels far outside [0, 1] (0..255, or normalised already).
        """
        check_pixels(image, self.image_size, "Sam")
        return self.scale_pixels(image)

    def embed(self, image: Tensor) -> Tensor:
        """Embed images (B, 1, S, S) in [0, 1]: (B, C, h, w)."""
        return self.image_encoder(self.normalise(image))

    def decode(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        tokens: slice | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict M candidate masks for each image in one batched call.

        Args:
            embedding: (B, C, h, w) from `embed`.
            points: (B, N, 2) as (x, y) in pixels of the S x S image, pixel centres at integers.
            labels: (B, N): 1 lesion, 0 background, -1 no point.
            boxes: (B, 4) as x1, y1, x2, y2.
            masks: (B, 1, H, W) logits at any size.
            tokens: which of the four mask tokens are candidates; None: this SAM's own.

        Returns:
            Mask logits (B, M, 4h, 4w) and predicted IoU (B, M), both float32; M is 3, or 4 for LiteMedSAM.
        """
        sparse, dense = self.encode_prompts(embedding.shape[0], points, labels, boxes, masks)
        return self.decode_embedded(embedding, sparse, dense, tokens)

    def decode_embedded(
        self, embedding: Tensor, sparse: Tensor, dense: Tensor, tokens: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        """`decode` with prompts that are embedded already: sparse (B, n, C) and dense (B, C, h, w)."""
        embedding = embedding.to(self.prompt_encoder.no_mask_embed.weight.dtype)  # a cache may hold half precision
        mask_logits, iou = self.mask_decoder.predict_masks(embedding, self.dense_positions(), sparse, dense)
        chosen = self.candidates if tokens is None else tokens
        return mask_logits[:, chosen].float(), iou[:, chosen].float()

    def encode_prompts(
        self,
        batch: int,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sparse (B, n, C) and dense (B, C, h, w) prompt embeddings; absent prompts are absent for the whole batch."""
        if (points is None) != (labels is None):
            raise ValueError("points and labels go together; give both or neither")
        prompts = {"points": points, "labels": labels, "boxes": boxes, "masks": masks}
        for name, prompt in prompts.items():
            if prompt is not None and prompt.shape[0] != batch:
                raise ValueError(f"{name}: expected one prompt set per image ({batch}), found {prompt.shape[0]}")
        labelled = None if points is None or labels is None else (points, labels)
        if masks is not None:
            size = self.prompt_encoder.mask_input_size
            masks = F.interpolate(masks.float(), size, mode="bilinear", align_corners=False, antialias=True)
        with full_precision(self.prompt_encoder.no_mask_embed.weight):
            sparse, dense = self.prompt_encoder(points=labelled, boxes=boxes, masks=masks)
        return sparse.expand(batch, -1, -1), dense.expand(batch, -1, -1, -1)

    def dense_positions(self) -> Tensor:
        """Position codes (1, C, h, w) of the embedding's grid, in float32."""
        with full_precision(self.prompt_encoder.no_mask_embed.weight):
            return self.prompt_encoder.get_dense_pe()


def full_precision(like: Tensor) -> torch.autocast:
    """Autocast switched off: sines of coordinates in bfloat16 move a box by pixels."""
    return torch.autocast(like.device.type, enabled=False)
