"""Where adapters go: the modules of an image encoder that they hook to."""

from typing import Any, NamedTuple

from torch import nn

DEEP_STAGES = 3  # whose last blocks are compared in distillation: strides 4, 8 and 16


class BlockPlace(NamedTuple):
    """A block's perceptron `mlp`, the `norm` that makes normalised tokens of its input, and their `width`."""

    mlp: nn.Module
    norm: nn.Module
    width: int


class AdapterPlaces(NamedTuple):
    """What an encoder shows to its adapters.

    `first`: the module whose input are the embedded patches with their positions; `width`: their channels;
    `channels_last`: they are (B, H, W, width), else (B, width, H, W); `blocks`: in the order in which they run, each
    perceptron called once a forward with tokens (B, a, b, D).
    """

    first: nn.Module
    width: int
    channels_last: bool
    blocks: tuple[BlockPlace, ...]


class StageEnd(NamedTuple):
    """The `adapter` of a stage's last block, of D channels, and the neck's 1 x 1 convolution `lateral` of that stage."""

    adapter: nn.Module
    lateral: nn.Conv2d


def tiny_vit_places(encoder: Any) -> AdapterPlaces:
    """The ten transformer blocks of LiteMedSAM's `TinyViT`; its perceptrons normalise their own input."""
    mlps = [block.mlp for layer in encoder.layers[1:] for block in layer.blocks]
    blocks = tuple(BlockPlace(mlp, mlp.norm, mlp.fc1.in_features) for mlp in mlps)
    return AdapterPlaces(encoder.layers[0], encoder.patch_embed.seq[-1].c.out_channels, False, blocks)


def hiera_places(backbone: Any) -> AdapterPlaces:
    """All blocks of SAM 2's `vision_encoder.backbone` as transformers builds it; their tokens come normalised."""
    mlps = [block.mlp for block in backbone.blocks]
    blocks = tuple(BlockPlace(mlp, nn.Identity(), mlp.proj_in.in_features) for mlp in mlps)
    return AdapterPlaces(backbone.blocks[0], backbone.patch_embed.projection.out_channels, True, blocks)


def hiera_stage_ends(vision_encoder: Any) -> list[StageEnd]:
    """The ends of the first three stages of an adapted SAM 2 `vision_encoder`, whose neck counts from the last stage."""
    backbone, laterals = vision_encoder.backbone, list(vision_encoder.neck.convs)[::-1]
    return [
        StageEnd(vision_encoder.adapters.blocks[end], lateral)
        for end, lateral in zip(backbone.stage_ends[:DEEP_STAGES], laterals, strict=False)
    ]
