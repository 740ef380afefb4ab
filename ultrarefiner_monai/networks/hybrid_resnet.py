"""Convolutional front of the hybrid vision transformer: a ResNet with standardised weights and group normalisation.

He et al., arXiv 1512.03385; weight standardisation: Qiao et al., arXiv 1903.10520; as a transformer's stem:
Dosovitskiy et al., arXiv 2010.11929 and, with skip connections, Chen et al., arXiv 2102.04306.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP_NORM_EPS = 1e-6  # of the published weights; the projections keep torch's 1e-5
WEIGHT_EPS = 1e-5
EXPANSION = 4  # a bottleneck's output channels over its middle ones


class StandardisedConv2d(nn.Conv2d):
    """Convolution whose kernel is standardised over (in, height, width) for each output channel on every call.

    Weight: (w - mean) / sqrt(var + 1e-5), biased variance.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        return self._conv_forward(x, (self.weight - mean) * torch.rsqrt(variance + WEIGHT_EPS), self.bias)


class GroupNorm(nn.GroupNorm):
    """Group normalisation that stays fast on channels-last tensors.

    torch's CPU kernel walks them with a stride, slowest in bf16 with one group a channel; copying to contiguous memory
    and back costs less. Same numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W) in the same memory format."""
        y = super().forward(x.contiguous())
        if x.is_contiguous(memory_format=torch.channels_last):
            y = y.contiguous(memory_format=torch.channels_last)
        return y


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> StandardisedConv2d:
    return StandardisedConv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions, each group-normalised, added to the (projected) input.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, four times those in the middle.
        stride: of the 3x3 convolution and of the projection.
        groups: groups of the normalisations; must divide the middle channels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 32) -> None:
        super().__init__()
        middle = out_channels // EXPANSION
        self.conv1 = _conv(in_channels, middle, 1)
        self.gn1 = GroupNorm(groups, middle, eps=GROUP_NORM_EPS)
        self.conv2 = _conv(middle, middle, 3, stride)
        self.gn2 = GroupNorm(groups, middle, eps=GROUP_NORM_EPS)
        self.conv3 = _conv(middle, out_channels, 1)
        self.gn3 = GroupNorm(groups, out_channels, eps=GROUP_NORM_EPS)
        self.projection: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.projection = nn.Sequential(
                _conv(in_channels, out_channels, 1, stride), GroupNorm(out_channels, out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y = F.relu(self.gn1(self.conv1(x)))
        y = F.relu(self.gn2(self.conv2(y)))
        return F.relu(self.projection(x) + self.gn3(self.conv3(y)))


class HybridResNet(nn.Module):
    """Three-stage ResNet at 1/16 of the resolution, returning what a U-shaped decoder needs on its way up.

    Args:
        in_channels: channels of the image.
        width: channels of the root; the stages have 4, 8 and 16 times as many.
        units: bottlenecks in each of the three stages.
        groups: groups of the normalisations; must divide `width`.
    """

    def __init__(
        self, in_channels: int = 3, *, width: int = 64, units: Sequence[int] = (3, 4, 9), groups: int = 32
    ) -> None:
        super().__init__()
        if len(units) != 3:
            raise ValueError(f"units must give the bottlenecks of 3 stages, found {tuple(units)}")
        self.root = _conv(in_channels, width, 7, stride=2)
        self.gn_root = GroupNorm(groups, width, eps=GROUP_NORM_EPS)
        channels = [width, 4 * width, 8 * width, 16 * width]
        self.out_channels = channels[-1]
        self.skip_channels = tuple(channels[-2::-1])
        self.stages = nn.ModuleList(
            _stage(channels[i], channels[i + 1], count, stride=1 if i == 0 else 2, groups=groups)
            for i, count in enumerate(units)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W), H and W multiples of 16 -> (B, 16 width, H/16, W/16) and the skips at 1/8, 1/4 and 1/2."""
        height, width = x.shape[-2:]
        x = F.relu(self.gn_root(self.root(x)))
        skips = [x]
        x = F.max_pool2d(x, kernel_size=3, stride=2)
        for scale, stage in zip((4, 8), self.stages[:2], strict=True):
            x = stage(x)
            # The unpadded pool leaves one row and column too few: only the skip is completed, as in the published code.
            skips.insert(0, F.pad(x, (0, width // scale - x.shape[-1], 0, height // scale - x.shape[-2])))
        return self.stages[2](x), skips


def _stage(in_channels: int, out_channels: int, count: int, *, stride: int, groups: int) -> nn.Sequential:
    first = Bottleneck(in_channels, out_channels, stride=stride, groups=groups)
    rest = (Bottleneck(out_channels, out_channels, groups=groups) for _ in range(count - 1))
    return nn.Sequential(first, *rest)
