"""Pretrained encoder weights in the layout of Google's `R50+ViT-B_16.npz` (Dosovitskiy et al., arXiv 2010.11929).

The file stores convolutions as (height, width, in, out), linear maps as (in, out) and attention projections with the
heads apart. Each tensor of the network is therefore seen through a view that has the file's shape, and filled in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.files import read_npz

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.hybrid_resnet import Bottleneck, HybridResNet
    from ultrarefiner_monai.networks.transunet import TransformerBlock, TransUNet

POSITIONS = "Transformer/posembed_input/pos_embedding"
CLASSIFIER = ("cls", "head/", "pre_logits/")  # of the classifier these weights were trained as: not used here
SHOWN_FAULTS = 8


@torch.no_grad()
def load_npz(network: TransUNet, path: str | Path) -> None:
    """Fill the encoder of `network` from an npz file; neck, decoder and head stay as initialised.

    The position embeddings lose the class token and are resized bilinearly to the network's grid. Nothing is loaded
    unless everything fits.

    Raises:
        ValueError: the file is no npz, or a tensor is missing, unexpected or of another shape; all are named.
    """
    arrays = _read(Path(path))
    targets = dict(_targets(network))
    faults = [*_faults(targets, arrays), *_position_faults(network.positions, arrays)]
    if faults:
        raise ValueError(
            f"{path} does not fit this TransUNet: {shown(faults, SHOWN_FAULTS, '; ')}. "
            "Use the weights of the same architecture, such as R50+ViT-B_16.npz for r50_vit_b16"
        )
    for name, target in targets.items():
        target.copy_(torch.from_numpy(arrays[name]).reshape(target.shape))
    network.positions.copy_(resize_positions(torch.from_numpy(arrays[POSITIONS]), network.grid_size))


def resize_positions(positions: Tensor, grid_size: int) -> Tensor:
    """Drop the class token and resize the square grid of position embeddings: (1, 1 + n^2, C) -> (1, grid_size^2, C).

    Bilinear between aligned corner tokens, which is `scipy.ndimage.zoom(order=1)`.
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    grid = positions[:, 1:].float().transpose(1, 2).unflatten(2, (side, side))
    grid = F.interpolate(grid, size=(grid_size, grid_size), mode="bilinear", align_corners=True)
    return grid.flatten(2).transpose(1, 2)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path)
    except (OSError, DataError) as error:
        raise ValueError(f"cannot read {path} as npz weights: {error}; download R50+ViT-B_16.npz again") from error


def _faults(targets: dict[str, Tensor], arrays: dict[str, np.ndarray]) -> Iterator[str]:
    for name, target in targets.items():
        if name not in arrays:
            yield f"{name} is missing"
        elif not _fits(target, arrays[name]):
            yield f"{name} has shape {arrays[name].shape}, expected {tuple(target.shape)}"
    for name in arrays.keys() - targets.keys() - {POSITIONS}:
        if not name.startswith(CLASSIFIER):
            yield f"{name} is unexpected"


def _fits(target: Tensor, array: np.ndarray) -> bool:
    """Whether the shapes agree; the genuine file keeps some vectors as (1, 1, 1, C)."""
    return array.shape == target.shape or (target.ndim == 1 and array.shape == (1, 1, 1, *target.shape))


def _position_faults(positions: Tensor, arrays: dict[str, np.ndarray]) -> Iterator[str]:
    channels = positions.shape[-1]
    if POSITIONS not in arrays:
        yield f"{POSITIONS} is missing"
        return
    shape = arrays[POSITIONS].shape
    square = len(shape) == 3 and shape[1] > 1 and round((shape[1] - 1) ** 0.5) ** 2 == shape[1] - 1
    if not square or shape[0] != 1 or shape[2] != channels:
        yield f"{POSITIONS} has shape {shape}, expected (1, 1 + a square number, {channels})"


def _targets(network: TransUNet) -> Iterator[tuple[str, Tensor]]:
    """Names in the file, each with a view of the network's tensor in the file's shape."""
    yield from _resnet(network.resnet)
    yield from _conv("embedding", network.embedding)
    for i, block in enumerate(network.blocks):
        yield from _transformer_block(f"Transformer/encoderblock_{i}", cast("TransformerBlock", block))
    yield from _norm("Transformer/encoder_norm", network.norm)


def _resnet(resnet: HybridResNet) -> Iterator[tuple[str, Tensor]]:
    yield from _conv("conv_root", resnet.root)
    yield from _norm("gn_root", resnet.gn_root)
    for s, stage in enumerate(resnet.stages, start=1):
        for u, unit in enumerate(stage.children(), start=1):
            yield from _bottleneck(f"block{s}/unit{u}", cast("Bottleneck", unit))


def _bottleneck(prefix: str, unit: Bottleneck) -> Iterator[tuple[str, Tensor]]:
    for i in (1, 2, 3):
        yield from _conv(f"{prefix}/conv{i}", getattr(unit, f"conv{i}"))
        yield from _norm(f"{prefix}/gn{i}", getattr(unit, f"gn{i}"))
    if isinstance(unit.projection, nn.Sequential):
        conv, norm = unit.projection
        yield from _conv(f"{prefix}/conv_proj", cast(nn.Conv2d, conv))
        yield from _norm(f"{prefix}/gn_proj", cast(nn.GroupNorm, norm))


def _transformer_block(prefix: str, block: TransformerBlock) -> Iterator[tuple[str, Tensor]]:
    attention, split = block.attention, (block.attention.heads, -1)
    yield from _norm(f"{prefix}/LayerNorm_0", block.attention_norm)
    weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
    prefix_attention = f"{prefix}/MultiHeadDotProductAttention_1"
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        yield f"{prefix_attention}/{name}/kernel", weight.T.unflatten(1, split)
        yield f"{prefix_attention}/{name}/bias", bias.unflatten(0, split)
    yield f"{prefix_attention}/out/kernel", attention.out.weight.T.unflatten(0, split)
    yield f"{prefix_attention}/out/bias", attention.out.bias
    yield from _norm(f"{prefix}/LayerNorm_2", block.mlp_norm)
    for name, linear in (("Dense_0", block.mlp_in), ("Dense_1", block.mlp_out)):
        yield f"{prefix}/MlpBlock_3/{name}/kernel", linear.weight.T
        yield f"{prefix}/MlpBlock_3/{name}/bias", linear.bias


def _conv(prefix: str, conv: nn.Conv2d) -> Iterator[tuple[str, Tensor]]:
    yield f"{prefix}/kernel", conv.weight.permute(2, 3, 1, 0)
    if conv.bias is not None:
        yield f"{prefix}/bias", conv.bias


def _norm(prefix: str, norm: nn.GroupNorm | nn.LayerNorm) -> Iterator[tuple[str, Tensor]]:
    yield f"{prefix}/scale", norm.weight
    yield f"{prefix}/bias", norm.bias
