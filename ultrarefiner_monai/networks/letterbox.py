"""Fit an image into a square, and bring predictions back exactly to its own size.

Without a zoom the long side fills the square, and pixels keep their shape. With one an image has the size in the square that its
millimetres give it. Either way it is resampled once, with antialiasing, which MONAI's `Spacing` has not.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

Zoom = tuple[float, float]  # pixels of the square for one of the image: down a column, along a row


def zoom_to(spacing: float | None, pixel: Sequence[float] | None) -> Zoom | None:
    """The zoom that makes pixels of the size `pixel` (y, x) in mm squares of `spacing` mm; None where that is None.

    Raises:
        ValueError: the pixels' size is not known (None or NaN), or is none.
    """
    if spacing is None:
        return None
    if pixel is None or not all(0 < side < math.inf for side in pixel):
        raise ValueError(
            f"the size of its pixels is not known, and the network sees {spacing:g} mm a pixel; name a volume or DICOM file, "
            "which tells it"
        )
    down, along = (float(side) / spacing for side in pixel)
    return down, along


def letterbox(image: torch.Tensor, size: int, zoom: Zoom | None = None) -> torch.Tensor:
    """Scale `image` (C, H, W), its long side to `size` pixels or by `zoom`; pad right and bottom with zeros: (C, size, size).

    Bilinear with antialiasing; pixel centres follow `align_corners=False`.

    Raises:
        ValueError: as of `fitted_shape`.

    Example:
        >>> square = letterbox(torch.ones(1, 30, 60), 20)
        >>> square.shape, square[0, :, 0].sum()  # 10 rows of the image, 10 of padding
        (torch.Size([1, 20, 20]), tensor(10.))
        >>> undo_letterbox(square, (30, 60)).shape
        torch.Size([1, 30, 60])
    """
    height, width = fitted_shape(image.shape[-2:], size, zoom)
    return F.pad(_resample(image, (height, width)), (0, size - width, 0, size - height))


def letterbox_labels(labels: torch.Tensor, size: int, zoom: Zoom | None = None) -> torch.Tensor:
    """`letterbox` of a mask (1, H, W) of 0 and the numbers 1..K of labels, which stay whole: (1, size, size).

    A pixel that lies by half or more in labels has the number of the one that it lies in most.
    """
    numbers = torch.arange(1, 1 + max(1, int(labels.max())), device=labels.device).view(-1, 1, 1)
    shares = letterbox((labels == numbers).float(), size, zoom)
    covered = shares.sum(0, keepdim=True) >= 0.5
    return torch.where(covered, 1 + shares.argmax(0, keepdim=True), 0).to(labels.dtype)


def undo_letterbox(image: torch.Tensor, shape: tuple[int, int], zoom: Zoom | None = None) -> torch.Tensor:
    """Crop the padding of `image` (C, size, size) and scale what is left to `shape` (H, W): (C, H, W)."""
    height, width = fitted_shape(shape, image.shape[-1], zoom)
    return _resample(image[:, :height, :width], shape)


def fitted_shape(shape: tuple[int, int] | torch.Size, size: int, zoom: Zoom | None = None) -> tuple[int, int]:
    """(height, width) in a square of `size` pixels of an image of `shape` (H, W); no side below one pixel.

    Raises:
        ValueError: by its zoom it is larger than the square, which would cut it.
    """
    down, along = (size / max(shape),) * 2 if zoom is None else zoom
    height, width = max(1, round(shape[0] * down)), max(1, round(shape[1] * along))
    if max(height, width) > size:
        raise ValueError(
            f"{width} x {height} pixels at the network's spacing, which sees {size} x {size}; cut it, or take a model of a "
            "larger spacing or image_size"
        )
    return height, width


def _resample(image: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """`image` (C, h, w) at `shape` (H, W), bilinear with antialiasing: (C, H, W)."""
    if shape[1] == 1 < shape[0]:
        # torch 2.x repeats one value down an antialiased output that is one pixel wide; one pixel high is right.
        return _resample(image.mT, (1, shape[0])).mT
    return F.interpolate(image[None], tuple(shape), mode="bilinear", align_corners=False, antialias=True)[0]
