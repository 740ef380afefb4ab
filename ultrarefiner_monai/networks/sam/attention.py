"""Fused attention for segment-anything's image encoder, beside its eager code.

The class adds no parameter to the one it extends: `set_attention` exchanges one for the other in place, so
that checkpoints keep their names and a parity test compares the two on the same weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything

_image_encoder = import_segment_anything("modeling.image_encoder")


class FusedEncoderAttention(_image_encoder.Attention):  # type: ignore[name-defined]
    """ViT attention whose decomposed relative positions (Li et al., MViTv2, 2022) are the mask of one fused call.

    The eager code holds the scores, their sum with the positions and their softmax; this one holds the positions alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Attend within (B, h, w, C) tokens."""
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.position_bias(q, height, width))
        return self.proj(attended.transpose(1, 2).reshape(batch, height, width, -1))

    def position_bias(self, q: Tensor, height: int, width: int) -> Tensor | None:
        """Row plus column term of every (query, key) pair, (B, heads, h w, h w); None without relative positions."""
        if not self.use_rel_pos:
            return None
        grid = q.unflatten(2, (height, width))
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, _by_distance(self.rel_pos_h, height))
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, _by_distance(self.rel_pos_w, width))
        return (rows[..., :, None] + columns[..., None, :]).flatten(4, 5).flatten(2, 3)


def _by_distance(table: Tensor, size: int) -> Tensor:
    """Row `query - key + size - 1` of a (2 size - 1, C) table for each pair of positions, (size, size, C)."""
    position = torch.arange(size, device=table.device)
    return table[position[:, None] - position[None, :] + size - 1]


def set_attention(network: nn.Module, *, fused: bool) -> None:
    """Exchange, in place, the attention classes of every segment-anything image encoder in `network`.

    The mask decoder keeps the eager one: its scores are of a dozen tokens, and on a CPU a training step of the decoder takes
    a sixth longer with fused calls.
    """
    eager, other = _image_encoder.Attention, FusedEncoderAttention
    old, new = (eager, other) if fused else (other, eager)
    for module in network.modules():
        if type(module) is old:
            module.__class__ = new
