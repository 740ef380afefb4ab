"""Fit an image into a square without distorting it, and bring predictions back exactly to its own size."""

import torch
import torch.nn.functional as F


def letterbox(image: torch.Tensor, size: int) -> torch.Tensor:
    """Scale the long side of `image` (C, H, W) to `size` pixels and pad right and bottom with zeros: (C, size, size).

    Bilinear with antialiasing; pixel centres follow `align_corners=False`.

    Example:
        >>> square = letterbox(torch.ones(1, 30, 60), 20)
        >>> square.shape, square[0, :, 0].sum()  # 10 rows of the image, 10 of padding
        (torch.Size([1, 20, 20]), tensor(10.))
        >>> undo_letterbox(square, (30, 60)).shape
        torch.Size([1, 30, 60])
    """
    height, width = fitted_shape(image.shape[-2:], size)
    return F.pad(_resample(image, (height, width)), (0, size - width, 0, size - height))


def letterbox_labels(labels: torch.Tensor, size: int) -> torch.Tensor:
    """`letterbox` of a mask (1, H, W) of 0 and the numbers 1..K of labels, which stay whole: (1, size, size).

    A pixel that lies by half or more in labels has the number of the one that it lies in most.
    """
    numbers = torch.arange(1, 1 + max(1, int(labels.max())), device=labels.device).view(-1, 1, 1)
    shares = letterbox((labels == numbers).float(), size)
    covered = shares.sum(0, keepdim=True) >= 0.5
    return torch.where(covered, 1 + shares.argmax(0, keepdim=True), 0).to(labels.dtype)


def undo_letterbox(image: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Crop the padding of `image` (C, size, size) and scale what is left to `shape` (H, W): (C, H, W)."""
    height, width = fitted_shape(shape, image.shape[-1])
    return _resample(image[:, :height, :width], shape)


def fitted_shape(shape: tuple[int, int] | torch.Size, size: int) -> tuple[int, int]:
    """(height, width) of a picture of `shape` (H, W) once its long side is `size` pixels; no side below one pixel."""
    scale = size / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _resample(image: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """`image` (C, h, w) at `shape` (H, W), bilinear with antialiasing: (C, H, W)."""
    if shape[1] == 1 < shape[0]:
        # torch 2.x repeats one value down an antialiased output that is one pixel wide; one pixel high is right.
        return _resample(image.mT, (1, shape[0])).mT
    return F.interpolate(image[None], tuple(shape), mode="bilinear", align_corners=False, antialias=True)[0]
