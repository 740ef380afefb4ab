"""Probability maps of every shape, and what prompts their gradients are."""

import torch
from torch import Tensor

from ultrarefiner_monai.networks.prompts import PromptGenerator

ALL = PromptGenerator(positive_points=2, negative_points=2)
SIZE = 64


def rectangle(x1: int, y1: int, x2: int, y2: int, size: int = SIZE) -> Tensor:
    prob = torch.zeros(1, 1, size, size)
    prob[..., y1 : y2 + 1, x1 : x2 + 1] = 1
    return prob


def disc(x: float, y: float, radius: float, size: int = SIZE, softness: float = 1.5) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((columns - x) ** 2 + (rows - y) ** 2).float().sqrt()
    return ((radius - distance) / softness).sigmoid()[None, None]


def crescent() -> Tensor:
    return disc(32, 32, 22) * (1 - disc(40, 32, 20))


MAPS = {
    "disc": disc(30, 25, 12),
    "single_pixel": rectangle(20, 40, 20, 40),
    "corner_pixel": rectangle(0, 0, 0, 0),
    "edge_touching": rectangle(0, 10, 20, 63),
    "crescent": crescent(),
    "two_lesions": torch.maximum(disc(12, 12, 7), disc(48, 50, 7)),
    "faint": 0.3 * disc(30, 25, 12),
    "background": disc(30, 25, 12).clamp(min=0.05),
    "nearly_full": 1 - rectangle(3, 3, 4, 4),
    "speck": torch.maximum(disc(45, 45, 10), 0.5 * rectangle(2, 2, 2, 2)),
    "large_speck": torch.maximum(disc(180, 180, 40, size=256), 0.5 * rectangle(2, 2, 2, 2, size=256)),
    "noise": torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)),
}
UNUSABLE = {
    "blank": torch.zeros(1, 1, SIZE, SIZE),
    "full": torch.ones(1, 1, SIZE, SIZE),
    "flat": torch.full((1, 1, SIZE, SIZE), 0.4) + 0.01 * MAPS["noise"],
    "nan": torch.where(rectangle(5, 5, 6, 6) > 0, torch.nan, disc(30, 25, 12)),
    "inf": torch.where(rectangle(5, 5, 6, 6) > 0, torch.inf, disc(30, 25, 12)),
}


def gradients(generator: PromptGenerator, prob: Tensor) -> dict[str, Tensor]:
    """Gradient of each kind of prompt with respect to the map."""
    prob = prob.clone().requires_grad_()
    prompts = generator(prob)
    positive = generator.positive_points
    parts = {
        "positive": prompts.points[:, :positive],
        "negative": prompts.points[:, positive:],
        "box": prompts.boxes,
        "mask": prompts.masks.mean((1, 2, 3)),
    }
    return {name: torch.autograd.grad(part.sum(), prob, retain_graph=True)[0] for name, part in parts.items()}
