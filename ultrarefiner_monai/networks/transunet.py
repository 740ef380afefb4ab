"""TransUNet, the coarse network: a hybrid ResNet and vision transformer encoder under a U-shaped decoder.

Chen et al., arXiv 2102.04306. The defaults are the published R50-ViT-B/16 (105 276 066 parameters for two outputs);
other sizes are other constructor arguments.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.networks.hybrid_resnet import HybridResNet
from ultrarefiner_monai.networks.transunet_npz import load_npz

STRIDE = 16  # image pixels along a token's side
LAYER_NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to query, key and value."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, hidden) -> (B, N, hidden)."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, hidden_size: int, heads: int, mlp_size: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.attention = Attention(hidden_size, heads)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.mlp_in = nn.Linear(hidden_size, mlp_size)
        self.mlp_out = nn.Linear(mlp_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.mlp_in, self.mlp_out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, hidden) -> (B, N, hidden)."""
        x = x + self.attention(self.attention_norm(x))
        hidden = self.dropout(F.gelu(self.mlp_in(self.mlp_norm(x))))
        return x + self.dropout(self.mlp_out(hidden))


class ConvBlock(nn.Sequential):
    """3x3 convolution without bias, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
        )


class DecoderBlock(nn.Module):
    """Doubles the resolution, joins the skip connection and convolves twice."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBlock(in_channels + skip_channels, out_channels)
        self.conv2 = ConvBlock(out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(B, in, H, W) and (B, skip, 2H, 2W) or None -> (B, out, 2H, 2W)."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))


class TransUNet(nn.Module):
    """Segmentation network that gives logits at the size of the image it gets.

    It works on a grid of `img_size` x `img_size`: an image of another size is resampled to it (bilinear, antialiased)
    and the logits are brought back (bilinear). A one-channel image is repeated to three channels, as published: the
    root convolution takes three channels for `in_channels` 1 and 3, so that both load the pretrained weights.

    Args:
        in_channels: channels of the image, in [0, 1].
        out_channels: channels of the logits.
        img_size: side of the working grid in pixels, a multiple of 16.
        width: channels of the ResNet's root; its stages have 4, 8 and 16 times as many.
        units: bottlenecks of the ResNet's three stages.
        groups: groups of the ResNet's normalisations; divides `width`.
        hidden_size: channels of a token.
        layers: transformer blocks.
        heads: attention heads; divides `hidden_size`.
        mlp_size: hidden channels of a transformer block's MLP.
        neck_channels: channels between transformer and decoder.
        decoder_channels: channels of the decoder's blocks, one for each doubling of the resolution.
        dropout: probability of dropping a value behind the positions and in the MLPs.

    Raises:
        ValueError: `img_size` is no multiple of 16, or `decoder_channels` does not hold four numbers.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        img_size: int = 224,
        *,
        width: int = 64,
        units: Sequence[int] = (3, 4, 9),
        groups: int = 32,
        hidden_size: int = 768,
        layers: int = 12,
        heads: int = 12,
        mlp_size: int = 3072,
        neck_channels: int = 512,
        decoder_channels: Sequence[int] = (256, 128, 64, 16),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if img_size <= 0 or img_size % STRIDE:
            raise ValueError(f"img_size must be a positive multiple of {STRIDE}, found {img_size}")
        if len(decoder_channels) != 4:
            raise ValueError(f"decoder_channels must give 4 blocks, found {tuple(decoder_channels)}")
        self.in_channels = in_channels
        self.img_size = img_size
        self.grid_size = img_size // STRIDE

        self.resnet = HybridResNet(3 if in_channels == 1 else in_channels, width=width, units=units, groups=groups)
        self.embedding = nn.Conv2d(self.resnet.out_channels, hidden_size, 1)
        self.positions = nn.Parameter(torch.zeros(1, self.grid_size**2, hidden_size))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(hidden_size, heads, mlp_size, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)

        self.neck = ConvBlock(hidden_size, neck_channels)
        inputs = (neck_channels, *decoder_channels[:-1])
        skips = (*self.resnet.skip_channels, 0)
        self.decoder = nn.ModuleList(map(DecoderBlock, inputs, skips, decoder_channels))
        self.head = nn.Conv2d(decoder_channels[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> logits (B, out_channels, H, W)."""
        if x.shape[1] != self.in_channels:
            raise ValueError(f"TransUNet expects images of {self.in_channels} channels, found shape {tuple(x.shape)}")
        size, grid = x.shape[-2:], (self.img_size, self.img_size)
        if size != grid:
            x = F.interpolate(x, size=grid, mode="bilinear", antialias=True)
        if self.in_channels == 1:
            x = x.expand(-1, 3, -1, -1)
        logits = self._decode(*self._encode(x))
        return logits if size == grid else F.interpolate(logits, size=size, mode="bilinear")

    def load_npz(self, path: str | Path) -> None:
        """Load ImageNet weights in Google's R50+ViT-B_16.npz layout into the encoder; see `transunet_npz.load_npz`."""
        load_npz(self, path)

    def _encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image on the working grid -> tokens (B, hidden, h, w) and the skips, coarsest first."""
        x, skips = self.resnet(x)
        x = self.embedding(x).flatten(2).transpose(1, 2)
        x = self.dropout(x + self.positions)
        for block in self.blocks:
            x = block(x)
        return self.norm(x).transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size)), skips

    def _decode(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        x = self.neck(x)
        for block, skip in zip(self.decoder, [*skips, None], strict=True):
            x = block(x, skip)
        return self.head(x)


VARIANTS: dict[str, dict[str, Any]] = {
    "r50_vit_b16": {"img_size": 224},
    # For two CPU cores, from scratch, on a few hundred images.
    "tiny": {
        "img_size": 128,
        "width": 24,
        "units": (1, 2, 2),
        "groups": 8,
        "hidden_size": 128,
        "layers": 3,
        "heads": 4,
        "mlp_size": 384,
        "neck_channels": 96,
        "decoder_channels": (64, 48, 32, 16),
    },
}


def build_transunet(
    variant: str = "r50_vit_b16", img_size: int | None = None, in_channels: int = 1, out_channels: int = 1
) -> TransUNet:
    """Build a named size of TransUNet.

    Args:
        variant: `r50_vit_b16` (published, pretrained weights exist) or `tiny` (trains from scratch on a CPU).
        img_size: side of the working grid; None is the variant's own, 224 and 128.
        in_channels: channels of the image.
        out_channels: channels of the logits.

    Raises:
        ValueError: unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown TransUNet variant {variant!r}, expected one of {', '.join(VARIANTS)}")
    settings = VARIANTS[variant] | ({} if img_size is None else {"img_size": img_size})
    return TransUNet(in_channels, out_channels, **settings)
