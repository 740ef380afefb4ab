"""Masks with a square lesion, and their scores."""

import torch

from ultrarefiner_monai.metrics import segmentation_metrics


def square(top: int, left: int, size: int, shape: tuple[int, int] = (32, 40)) -> torch.Tensor:
    mask = torch.zeros(1, 1, *shape, dtype=torch.bool)
    mask[..., top : top + size, left : left + size] = True
    return mask


def value(pred: torch.Tensor, target: torch.Tensor, spacing=None) -> dict[str, float]:
    return {name: column.item() for name, column in segmentation_metrics(pred, target, spacing).items()}
