"""Build the SAM variants by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn

from ultrarefiner_monai.networks.sam.attention import set_attention
from ultrarefiner_monai.networks.sam.decoder import MaskDecoder, PromptEncoder
from ultrarefiner_monai.networks.sam.lora import inject_lora
from ultrarefiner_monai.networks.sam.model import ALL_TOKENS, Sam
from ultrarefiner_monai.networks.sam.pixels import imagenet_pixels, min_max_pixels
from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything
from ultrarefiner_monai.networks.sam.tiny_vit import TinyViT
from ultrarefiner_monai.networks.sam.weights import load_checkpoint

_modeling = import_segment_anything("modeling")


def build_sam(
    variant: str, image_size: int | None = None, checkpoint: str | Path | None = None, lora_rank: int = 0
) -> Sam:
    """Build a SAM in eval mode.

    Args:
        variant: `vit_b`, `vit_l`, `vit_h` (SAM, MedSAM), `lite_medsam` (TinyViT) or `tiny` (for tests).
        image_size: input side in pixels, a multiple of the patch (16; 4 for lite_medsam); None: the published one.
        checkpoint: published or fine-tuned weights; None: random weights.
        lora_rank: rank of the adapters on the image encoder's attention, which freeze the rest of it; 0: none.

    Raises:
        ValueError: unknown variant, a size the patch does not divide, or weights of another network.
        FileNotFoundError: no such checkpoint.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown SAM variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    build, default_size, patch = VARIANTS[variant]
    size = default_size if image_size is None else image_size
    if size <= 0 or size % patch:
        raise ValueError(f"image_size of SAM {variant}: expected a positive multiple of {patch}, found {size}")
    sam = build(variant, size)
    set_attention(sam, fused=True)
    if checkpoint is not None:
        load_checkpoint(sam, checkpoint)
    if lora_rank:
        inject_lora(sam.image_encoder, lora_rank)
    return sam.eval()


def _build_vit(
    variant: str,
    image_size: int,
    *,
    width: int,
    depth: int,
    heads: int,
    global_blocks: tuple[int, ...],
    window: int = 14,
    channels: int = 256,
    **decoder: int,
) -> Sam:
    encoder = _modeling.ImageEncoderViT(
        img_size=image_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        out_chans=channels,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window,
        global_attn_indexes=global_blocks,
    )
    prompt_modules = _prompt_modules(image_size, 16, channels, **decoder)
    return Sam(encoder, *prompt_modules, variant=variant, scale_pixels=imagenet_pixels)


def _build_lite_medsam(variant: str, image_size: int) -> Sam:
    prompt_modules = _prompt_modules(image_size, 4)
    encoder = TinyViT(image_size)
    return Sam(encoder, *prompt_modules, variant=variant, scale_pixels=min_max_pixels, candidates=ALL_TOKENS)


def _prompt_modules(
    image_size: int,
    patch: int,
    channels: int = 256,
    *,
    decoder_heads: int = 8,
    decoder_mlp: int = 2048,
    mask_channels: int = 16,
) -> tuple[PromptEncoder, MaskDecoder]:
    grid = image_size // patch
    prompt_encoder = PromptEncoder(
        embed_dim=channels,
        image_embedding_size=(grid, grid),
        input_image_size=(image_size, image_size),
        mask_in_chans=mask_channels,
    )
    transformer = _modeling.TwoWayTransformer(
        depth=2, embedding_dim=channels, num_heads=decoder_heads, mlp_dim=decoder_mlp
    )
    decoder = MaskDecoder(transformer_dim=channels, transformer=transformer, iou_head_hidden_dim=channels)
    return prompt_encoder, decoder


class Variant(NamedTuple):
    """How to build a variant, its published input side and the side of its patches in pixels."""

    build: Callable[[str, int], Sam]
    image_size: int
    patch: int


_vit_b = partial(_build_vit, width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))
_vit_l = partial(_build_vit, width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))
_vit_h = partial(_build_vit, width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))
_tiny = partial(
    _build_vit,
    width=64,
    depth=2,
    heads=2,
    global_blocks=(1,),
    window=4,
    channels=32,
    decoder_heads=2,
    decoder_mlp=64,
    mask_channels=8,
)

VARIANTS = {
    "vit_b": Variant(_vit_b, 1024, 16),
    "vit_l": Variant(_vit_l, 1024, 16),
    "vit_h": Variant(_vit_h, 1024, 16),
    "lite_medsam": Variant(_build_lite_medsam, 256, 4),
    "tiny": Variant(_tiny, 128, 16),
}
