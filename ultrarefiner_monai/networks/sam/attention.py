"""Fused attention for segment-anything's modules, beside their eager code.

Both classes add no parameter to the class they extend: `set_attention` exchanges one for the other in place, so
that checkpoints keep their names and a parity test compares the two on the same weights.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything

_image_encoder = import_segment_anything("modeling.image_encoder")
_transformer = import_segment_anything("modeling.transformer")


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


class FusedDecoderAttention(_transformer.Attention):  # type: ignore[name-defined]
    """Attention of the two-way transformer in one fused call."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from (B, n, C) queries to (B, m, C) keys and values."""
        q, k, v = (
            project(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for project, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


_EAGER: dict[type, Any] = {
    FusedEncoderAttention: _image_encoder.Attention,
    FusedDecoderAttention: _transformer.Attention,
}
_FUSED = {eager: fused for fused, eager in _EAGER.items()}


def set_attention(network: nn.Module, *, fused: bool) -> None:
    """Exchange, in place, the attention classes of every segment-anything module in `network`."""
    classes = _FUSED if fused else _EAGER
    for module in network.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]
