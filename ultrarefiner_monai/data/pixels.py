"""The pixels of a manifest's images: of a picture's file, or of a slice of a volume's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.images import Size, read_grey, read_mask
from ultrarefiner_monai.data.volumes import grey_slice, label_slice


def image_pixels(path: str | Path, item: Mapping[Any, Any]) -> np.ndarray:
    """Grey values (H, W) float32 in [0, 1] of the image at `path`: the slice that `item` is (`slice`), or else the picture.

    A picture is read on the grid of the item (`width`, `height`), where it comes from a manifest. Of a slice the item may say
    which grey values become 0 and 1 (`clip`).
    """
    if "slice" not in item:
        return read_grey(path, size=_grid(item))
    clip = (float(item["clip"][0]), float(item["clip"][1])) if "clip" in item else None
    return grey_slice(path, int(item["slice"]), clip)


def lesion_pixels(paths: Sequence[str | Path], item: Mapping[Any, Any]) -> np.ndarray:
    """The lesion bool (H, W): the union of a picture's masks at `paths`; of a slice, where its volume has the label `organ`.

    Where the item names no organ, any label counts; of one whose `organs` are told apart the number of each, 1 for the first of
    them, uint8, other labels being background.
    """
    if "slice" not in item:
        return read_mask(paths, size=_grid(item))
    labels = label_slice(paths[0], int(item["slice"]))
    if "organs" in item:
        numbers = np.zeros(256, np.uint8)  # by label, which is one of uint8
        numbers[[int(organ) for organ in item["organs"]]] = range(1, 1 + len(item["organs"]))
        return numbers[labels]
    return labels == int(item["organ"]) if "organ" in item else labels > 0


def _grid(item: Mapping[Any, Any]) -> Size | None:
    """(width, height) of the item's scoring grid, if the item comes from a manifest."""
    return (int(item["width"]), int(item["height"])) if "width" in item else None
