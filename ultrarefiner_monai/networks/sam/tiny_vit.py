"""TinyViT image encoder of LiteMedSAM (Wu et al., TinyViT, ECCV 2022; Ma et al., MedSAM, 2024).

Parameter names and shapes are those of the published `lite_medsam.pth`. Feature maps are (B, C, H, W) in
channels-last memory throughout, so the change between convolution and token layout costs nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything

_common = import_segment_anything("modeling.common")


class ConvNorm(nn.Sequential):
    """Convolution without bias and batch normalisation; in eval mode the normalisation is folded into the kernel.

    Folding at each call costs one pass over the small kernel and saves one over the large feature map.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        if self.bn.training:
            return self.bn(self.c(x))
        scale = self.bn.weight * torch.rsqrt(self.bn.get_buffer("running_var") + self.bn.eps)
        kernel = self.c.weight * scale[:, None, None, None]
        bias = self.bn.bias - self.bn.get_buffer("running_mean") * scale
        if self.c.kernel_size == (1, 1):  # a channels-last map is its own list of tokens: no copy, one product
            return F.linear(x.permute(0, 2, 3, 1), kernel[:, :, 0, 0], bias).permute(0, 3, 1, 2)
        return F.conv2d(x, kernel, bias, self.c.stride, self.c.padding, groups=self.c.groups)


class Stem(nn.Module):
    """Pixels to features at full resolution by two 1x1 convolutions (LiteMedSAM drops TinyViT's stride here)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(inputs, width // 2), nn.GELU(), ConvNorm(width // 2, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, width, H, W)."""
        return self.seq(x)


class MBConv(nn.Module):
    """Inverted bottleneck: 1x1 expansion, 3x3 depthwise, 1x1 projection, residual (Sandler et al., 2018)."""

    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = expansion * width
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = ConvNorm(hidden, hidden, kernel=3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)
        nn.init.zeros_(self.conv3.bn.weight)  # the block starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        inner = _gelu(self.conv2(_gelu(self.conv1(x))))
        return _gelu(x + self.conv3(inner))


class Merge(nn.Module):
    """Change of width, and of resolution by `stride`, between two stages."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, kernel=3, stride=stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return self.conv3(_gelu(self.conv2(_gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Attention among the tokens of one square window, with one learned bias per head and absolute offset (LeViT)."""

    bias_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)  # outputs are ordered head by head: its query, key, value
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        offset = [(axis.flatten()[:, None] - axis.flatten()[None, :]).abs() for axis in (y, x)]
        self.register_buffer("bias_index", offset[0] * window + offset[1], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(windows, window^2, width) -> the same shape."""
        qkv = self.qkv(self.norm(tokens)).unflatten(2, (self.heads, 3, -1))
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)
        bias = self.attention_biases[:, self.bias_index].to(q.dtype)[None]
        return self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Normalised two-layer perceptron on the last axis."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        return self.fc2(_gelu(self.fc1(self.norm(x))))


class TransformerBlock(nn.Module):
    """Windowed attention, a depthwise convolution that joins the windows, a perceptron."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, kernel=3, groups=width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        tokens = x.permute(0, 2, 3, 1)
        tokens = tokens + self._attend(tokens)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (tokens + self.mlp(tokens)).permute(0, 3, 1, 2)

    def _attend(self, tokens: Tensor) -> Tensor:
        """Attention inside windows of a (B, H, W, width) map, zero-padded to whole windows as in training."""
        batch, height, width, channels = tokens.shape
        side = self.window
        padded = F.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        windows = padded.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
        windows = self.attn(windows.reshape(-1, side * side, channels))
        whole = windows.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
        return whole.reshape(padded.shape)[:, :height, :width]


class Stage(nn.Module):
    """Blocks of one width followed, but for the last stage, by a `Merge`."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the input of the next stage."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """Image encoder: (B, 3, S, S) -> (B, out_channels, S / 4, S / 4) for any S that is a multiple of 4.

    Args:
        img_size: input side S, kept for segment-anything's interface; no parameter depends on it.
        widths, depths, heads, windows: one value per stage; the first stage is convolutional and ignores the last two.
        strides: resolution steps between the stages.
        out_channels: width of the embedding.
    """

    def __init__(
        self,
        img_size: int = 256,
        *,
        widths: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (2, 4, 5, 10),
        windows: Sequence[int] = (7, 7, 14, 7),
        strides: Sequence[int] = (2, 2, 1),
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_embed = Stem(3, widths[0])
        merges = [Merge(*step) for step in zip(widths[:-1], widths[1:], strides, strict=True)]
        self.layers = nn.ModuleList([Stage([MBConv(widths[0]) for _ in range(depths[0])], merges[0])])
        for i, merge in enumerate([*merges[1:], None], start=1):
            blocks = [TransformerBlock(widths[i], heads[i], windows[i]) for _ in range(depths[i])]
            self.layers.append(Stage(blocks, merge))
        self.apply(_initialise_linear)
        self.neck = nn.Sequential(
            nn.Conv2d(widths[-1], out_channels, 1, bias=False),
            _common.LayerNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            _common.LayerNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed normalised images."""
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)


def _initialise_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _gelu(x: Tensor) -> Tensor:
    """GELU, in place where no graph needs the argument: a fresh full-resolution buffer costs more than the function."""
    return F.gelu(x) if x.requires_grad else torch.ops.aten.gelu_(x)
