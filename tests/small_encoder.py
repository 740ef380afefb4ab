"""An image encoder of three stages like SAM 2's, of a few hundred weights, with places for adapters and a neck."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultrarefiner_monai.networks.adapters import AdapterPlaces, BlockFeatures, EncoderFeatures, add_adapters, watch
from ultrarefiner_monai.networks.adapters.places import BlockPlace


class SmallBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class SmallEncoder(nn.Module):
    """(B, 3, H, W) -> the neck's three maps (B, channels, H / s, W / s) of strides s 4, 8 and 16, the finest first."""

    def __init__(self, width: int = 4, channels: int = 8, edge: str = "directions") -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.positions = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(SmallBlock(w) for w in widths)
        self.widen = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.laterals = nn.ModuleList(nn.Conv2d(w, channels, 1) for w in widths)
        places = tuple(BlockPlace(block.mlp, nn.Identity(), w) for block, w in zip(self.blocks, widths, strict=True))
        add_adapters(self, AdapterPlaces(self.blocks[0], width, True, places), edge=edge)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.patch(image).permute(0, 2, 3, 1) + self.positions
        maps = []
        for number, block in enumerate(self.blocks):
            if number:
                x = self.widen[number - 1](F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1))
            x = block(x)
            maps.append(self.laterals[number](x.permute(0, 3, 1, 2)))
        for fine in (1, 0):
            maps[fine] = maps[fine] + F.interpolate(maps[fine + 1], scale_factor=2.0, mode="nearest")
        return maps

    def features(self, image: Tensor) -> EncoderFeatures:
        with watch(list(self.adapters.blocks)) as terms:
            maps = self(image)
        blocks = [BlockFeatures(*stage) for stage in zip(maps, terms, self.laterals, strict=True)]
        return EncoderFeatures(maps[0], tuple(maps), tuple(blocks))


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give all parameters values as training would, those that start at zero above all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module
