"""Fit a picture into a square without distorting it, and bring predictions back exactly to the picture's own size."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform


def letterbox(image: torch.Tensor, size: int) -> torch.Tensor:
    """Scale the long side of ``image`` (C, H, W) to ``size`` pixels and pad right and bottom with zeros: (C, size, size).

    Bilinear with antialiasing; pixel centres follow ``align_corners=False``.
    """
    height, width = fitted_shape(image.shape[-2:], size)
    return F.pad(_resample(image, (height, width)), (0, size - width, 0, size - height))


def undo_letterbox(image: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Crop the padding of ``image`` (C, size, size) and scale what is left to ``shape`` (H, W): (C, H, W)."""
    height, width = fitted_shape(shape, image.shape[-1])
    return _resample(image[:, :height, :width], shape)


def fitted_shape(shape: tuple[int, int] | torch.Size, size: int) -> tuple[int, int]:
    """(height, width) of a picture of ``shape`` (H, W) once its long side is ``size`` pixels; no side below one pixel."""
    scale = size / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _resample(image: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """``image`` (C, h, w) at ``shape`` (H, W), bilinear with antialiasing: (C, H, W)."""
    if shape[1] == 1 < shape[0]:
        # torch 2.x repeats one value down an antialiased output that is one pixel wide; one pixel high is right.
        return _resample(image.mT, (1, shape[0])).mT
    return F.interpolate(image[None], tuple(shape), mode="bilinear", align_corners=False, antialias=True)[0]


class Letterboxd(MapTransform, InvertibleTransform):
    """Letterbox several keys to a square of ``size`` pixels; ``Invertd`` brings a prediction back to the file's own size.

    Args:
        keys: keys of (1, H, W) tensors.
        size: side of the square in pixels.
        binary_keys: keys among ``keys`` that hold masks; they are thresholded at one half after resampling.
    """

    def __init__(
        self, keys: KeysCollection, size: int, binary_keys: str | Sequence[str] = (), allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = size
        self.binary_keys = (binary_keys,) if isinstance(binary_keys, str) else tuple(binary_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` whose ``keys`` are (1, size, size)."""
        item = dict(data)
        for key in self.key_iterator(item):
            source = item[key]
            fitted = letterbox(torch.as_tensor(source).as_subclass(torch.Tensor), self.size)
            if key in self.binary_keys:
                fitted = (fitted >= 0.5).to(fitted.dtype)
            item[key] = self._traced(fitted, source)
        return item

    def _traced(self, fitted: torch.Tensor, source: torch.Tensor) -> MetaTensor:
        """Wrap ``fitted`` with the meta data of ``source`` and remember the shape to go back to."""
        meta = source.meta if isinstance(source, MetaTensor) else {}
        result = MetaTensor(fitted, meta=dict(meta))
        self.push_transform(result, orig_size=tuple(source.shape[-2:]))
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of ``data`` whose ``keys`` have the shapes they had before this transform."""
        item = dict(data)
        for key in self.key_iterator(item):
            height, width = self.pop_transform(item[key])["orig_size"]
            restored = undo_letterbox(item[key].as_subclass(torch.Tensor), (int(height), int(width)))
            item[key] = MetaTensor(restored, meta=dict(item[key].meta))
        return item
