"""Hiera, SAM 2's image encoder (Ryali et al., ICML 2023), from transformers' classes: in a SAM 2, or before another decoder."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam2.variants import STRIDE, VARIANTS, Variant


def vision_config(variant: Variant, image_size: int) -> Any:
    """Transformers' `Sam2VisionConfig`; its import takes seconds, so it waits until here."""
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    widths = [variant.width * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=variant.width,
        num_attention_heads=variant.heads,
        image_size=[image_size, image_size],
        window_positional_embedding_background_size=[variant.background, variant.background],
        blocks_per_stage=list(variant.blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[variant.heads * 2**stage for stage in range(4)],
        window_size_per_stage=list(variant.windows),
        global_attention_blocks=list(variant.global_blocks),
    )
    return Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[image_size // stride] * 2 for stride in (4, 8, 16)],
    )


class HieraEmbedding(nn.Module):
    """One map (B, 256, S / 4, S / 4) of images (B, 3, S, S): a Hiera's four stages, each added to the next finer one.

    The weights are those of a SAM 2's image encoder, `backbone` and `neck`.

    Args:
        variant: of SAM 2.
        image_size: side S in pixels.

    Raises:
        ValueError: an unknown variant, or a size that 32 does not divide.
    """

    def __init__(self, variant: str, image_size: int) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"unknown SAM 2 variant {variant!r}; expected one of {', '.join(VARIANTS)}")
        if image_size <= 0 or image_size % STRIDE:
            raise ValueError(f"image_size of Hiera: expected a positive multiple of {STRIDE}, found {image_size}")
        from transformers import Sam2VisionModel

        vision = Sam2VisionModel(vision_config(VARIANTS[variant], image_size))
        self.backbone, self.neck = vision.backbone, vision.neck

    def forward(self, image: Tensor) -> Tensor:
        """Embed normalised images."""
        stages = self.backbone(image).intermediate_hidden_states[::-1]  # (B, h, w, D), the coarsest first
        laterals = [lateral(stage.permute(0, 3, 1, 2)) for lateral, stage in zip(self.neck.convs, stages, strict=True)]
        embedding = laterals[0]
        for lateral in laterals[1:]:
            embedding = lateral + F.interpolate(embedding, scale_factor=2.0, mode="nearest")
        return embedding
