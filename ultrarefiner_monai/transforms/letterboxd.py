"""Letterbox as a dictionary transform that `Invertd` undoes."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform

from ultrarefiner_monai.networks.letterbox import letterbox, letterbox_labels, undo_letterbox


class Letterboxd(MapTransform, InvertibleTransform):
    """Letterbox several keys to a square of `size` pixels; `Invertd` brings a prediction back to the file's own size.

    Args:
        keys: keys of (1, H, W) tensors.
        size: side of the square in pixels.
        binary_keys: keys among `keys` that hold masks, 0 or the number of a label; after resampling a pixel that lies by half
            or more in labels has the number of the one that it lies in most.
    """

    def __init__(
        self, keys: KeysCollection, size: int, binary_keys: str | Sequence[str] = (), allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = size
        self.binary_keys = (binary_keys,) if isinstance(binary_keys, str) else tuple(binary_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` whose `keys` are (1, size, size)."""
        item = dict(data)
        for key in self.key_iterator(item):
            source = item[key]
            plain = torch.as_tensor(source).as_subclass(torch.Tensor)
            fitted = letterbox_labels(plain, self.size) if key in self.binary_keys else letterbox(plain, self.size)
            item[key] = self._traced(fitted, source)
        return item

    def _traced(self, fitted: torch.Tensor, source: torch.Tensor) -> MetaTensor:
        """Wrap `fitted` with the meta data of `source` and remember the shape to go back to."""
        meta = source.meta if isinstance(source, MetaTensor) else {}
        result = MetaTensor(fitted, meta=dict(meta))
        self.push_transform(result, orig_size=tuple(source.shape[-2:]))
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` whose `keys` have the shapes they had before this transform."""
        item = dict(data)
        for key in self.key_iterator(item):
            height, width = self.pop_transform(item[key])["orig_size"]
            restored = undo_letterbox(item[key].as_subclass(torch.Tensor), (int(height), int(width)))
            item[key] = MetaTensor(restored, meta=dict(item[key].meta))
        return item
