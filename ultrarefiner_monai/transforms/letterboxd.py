"""Letterbox as a dictionary transform that `Invertd` undoes."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.networks.letterbox import Zoom, letterbox, letterbox_labels, undo_letterbox, zoom_to


class Letterboxd(MapTransform, InvertibleTransform):
    """Letterbox several keys to a square of `size` pixels; `Invertd` brings a prediction back to the file's own size.

    Args:
        keys: keys of (1, H, W) tensors.
        size: side of the square in pixels.
        binary_keys: keys among `keys` that hold masks, 0 or the number of a label; after resampling a pixel that lies by half
            or more in labels has the number of the one that it lies in most.
        spacing: mm that a pixel of the square stands for; an item's own pixels are (y, x) mm under `spacing`. None: the long side
            fills the square, whatever its millimetres.

    Raises:
        DataError: an item does not tell the size of its pixels, or is larger than the square then.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        binary_keys: str | Sequence[str] = (),
        allow_missing_keys: bool = False,
        spacing: float | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = size
        self.spacing = spacing
        self.binary_keys = (binary_keys,) if isinstance(binary_keys, str) else tuple(binary_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` whose `keys` are (1, size, size)."""
        item = dict(data)
        try:
            zoom = zoom_to(self.spacing, item.get("spacing"))
            for key in self.key_iterator(item):
                source = item[key]
                plain = torch.as_tensor(source).as_subclass(torch.Tensor)
                fit = letterbox_labels if key in self.binary_keys else letterbox
                item[key] = self._traced(fit(plain, self.size, zoom), source, zoom)
        except ValueError as error:
            raise DataError(f"{item.get('id', 'image')}: {error}") from None
        return item

    def _traced(self, fitted: torch.Tensor, source: torch.Tensor, zoom: Zoom | None) -> MetaTensor:
        """Wrap `fitted` with the meta data of `source` and remember the shape to go back to."""
        meta = source.meta if isinstance(source, MetaTensor) else {}
        result = MetaTensor(fitted, meta=dict(meta))
        self.push_transform(result, orig_size=tuple(source.shape[-2:]), extra_info={"zoom": zoom})
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` whose `keys` have the shapes they had before this transform."""
        item = dict(data)
        for key in self.key_iterator(item):
            done = self.pop_transform(item[key])
            height, width = done["orig_size"]
            plain = item[key].as_subclass(torch.Tensor)
            restored = undo_letterbox(plain, (int(height), int(width)), done["extra_info"]["zoom"])
            item[key] = MetaTensor(restored, meta=dict(item[key].meta))
        return item


def zoom_of(image: torch.Tensor) -> Zoom | None:
    """How `Letterboxd`, the last transform of an image, has scaled it; None by its long side."""
    done = getattr(image, "applied_operations", None)
    zoom = done[-1]["extra_info"]["zoom"] if done else None
    return None if zoom is None else (float(zoom[0]), float(zoom[1]))
