"""Pixel scaling that each published image encoder was trained with, applied to letterboxed grey images."""

import torch
from torch import Tensor

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def valid_area(image: Tensor) -> Tensor:
    """True on all but the letterbox's padding, the trailing rows and columns that are exactly zero: (B, 1, H, W)."""
    signal = image != 0
    return _up_to_last(signal.any(3, keepdim=True), 2) & _up_to_last(signal.any(2, keepdim=True), 3)


def _up_to_last(flags: Tensor, dim: int) -> Tensor:
    """True at and before the last True along `dim`."""
    return flags.int().flip(dim).cumsum(dim).flip(dim) > 0


def imagenet_pixels(image: Tensor) -> Tensor:
    """SAM: 0..255 minus ImageNet's mean over its deviation, then zero padding; (B, 1, H, W) -> (B, 3, H, W)."""
    mean = image.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = image.new_tensor(IMAGENET_STD).view(3, 1, 1)
    return torch.where(valid_area(image), (255 * image - mean) / std, 0)


def min_max_pixels(image: Tensor) -> Tensor:
    """LiteMedSAM: each image's valid area stretched to [0, 1], then zero padding; (B, 1, H, W) -> (B, 3, H, W)."""
    valid = valid_area(image)
    low = image.masked_fill(~valid, torch.inf).amin((1, 2, 3), keepdim=True)
    high = image.masked_fill(~valid, -torch.inf).amax((1, 2, 3), keepdim=True)
    stretched = (image - low) / (high - low).clamp_min(1e-8)
    return torch.where(valid, stretched, 0).expand(-1, 3, -1, -1)


def check_pixels(image: Tensor, size: int, network: str) -> None:
    """Refuse images that are not (B, 1, size, size), or whose pixels are far outside [0, 1] (0..255, or normalised already).

    Raises:
        ValueError: says what `network` expects and what was found.
    """
    expected = (1, size, size)
    if image.shape[1:] != expected:
        raise ValueError(f"{network} expects images (B, {', '.join(map(str, expected))}), found {tuple(image.shape)}")
    if not torch.compiler.is_compiling() and (image.amax() > 1.5 or image.amin() < -0.5):
        low, high = image.amin().item(), image.amax().item()
        raise ValueError(
            f"{network} expects pixels in [0, 1], found [{low:.3g}, {high:.3g}]; it normalises them itself"
        )
