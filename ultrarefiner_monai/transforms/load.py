"""Reading images, masks and probability maps into channel-first tensors, (1, H, W)."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ultrarefiner_monai.data.pixels import image_pixels, lesion_pixels
from ultrarefiner_monai.data.predictions.maps import read_map
from ultrarefiner_monai.errors import DataError


def _union(paths: str, item: Mapping[Hashable, Any]) -> torch.Tensor:
    """`lesion_pixels` (1, H, W) of the masks at `paths`, parted by NUL, which no path holds."""
    return torch.from_numpy(lesion_pixels(paths.split("\0"), item))[None]


class LoadGreyd(MapTransform):
    """Read images as grey values: path -> `MetaTensor` (1, H, W), float32 in [0, 1].

    Every file kind gives the same tensor as its grey original (`read_grey`). The path is
    kept under `image_path`; `meta["filename_or_obj"]` and `meta["spatial_shape"]` are set as MONAI's readers do.
    Items of a manifest are read on the manifest's grid (`width`, `height`), where their mask lives. Of an item with `slice` the
    path is that of a volume, and it is that slice of it (`data.volumes`).

    Raises:
        DataError: the file cannot be read.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the images read."""
        item = dict(data)
        for key in self.key_iterator(item):
            path = str(item[key])
            pixels = torch.from_numpy(image_pixels(path, item))[None]
            item[key] = MetaTensor(pixels, meta={"filename_or_obj": path, "spatial_shape": tuple(pixels.shape[1:])})
            item[f"{key}_path"] = path
        return item


class LoadMaskd(MapTransform):
    """Read lesion masks: paths parted by NUL, their union -> `MetaTensor` (1, H, W) float32 in {0, 1}, of organs {0, .., K}.

    Paths are one text and not a list, because items with different numbers of masks must collate. They are kept under
    `<key>_path`.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the masks read."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[f"{key}_path"] = str(item[key])
            item[key] = MetaTensor(_union(item[f"{key}_path"], item).float())
        return item


class LoadTruthd(MapTransform):
    """Read the masks that `LoadMaskd` noted again at their own size, for scoring: (1, H, W), bool, or uint8 of organs.

    Used after inference: masks of different sizes could not have travelled in one batch.

    Args:
        keys: keys to write.
        source: key of the paths, parted by NUL.
    """

    def __init__(self, keys: KeysCollection, source: str = "label_path", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source = source

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the masks under `keys`; untouched where no mask is known."""
        item = dict(data)
        if self.source not in item:
            return item
        mask = _union(item[self.source], item)
        return item | dict.fromkeys(self.keys, mask)


class LoadMapd(MapTransform):
    """Read probability maps written by an earlier phase: NIfTI path -> `MetaTensor` (1, H, W) in [0, 1]."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the maps read."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = MetaTensor(torch.from_numpy(read_map(item[key]))[None])
        return item


class ClassMaskd(MapTransform):
    """Give the pixels of a lesion mask the number of its class: (1, H, W) in {0, 1} -> {0, k}, k = 1 for the first class.

    Args:
        keys: keys of masks.
        classes: names of the classes in their order; where there are none, or the mask has numbers of organs already, it
            stays as it is.
        class_key: key of the image's class.

    Raises:
        DataError: the image is of another class.
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: Sequence[str],
        class_key: str = "class",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.classes = tuple(classes)
        self.class_key = class_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the masks numbered."""
        item = dict(data)
        if not self.classes or "organs" in item:
            return item
        name = item[self.class_key]
        if name not in self.classes:
            raise DataError(f"{item.get('id', 'image')}: class {name}, expected one of {', '.join(self.classes)}")
        number = 1 + self.classes.index(name)
        for key in self.key_iterator(item):
            item[key] = item[key] * number
        return item
