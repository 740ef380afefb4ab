"""The pixels of a manifest's images: of a picture's file, or of a slice of a volume's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.images import Size, read_grey, read_mask
from ultrarefiner_monai.data.volumes import grey_slice, label_slice


def image_pixels(path: str | Path, item: Mapping[Any, Any]) -> np.ndarray:
    """Grey values (H, W) float32 in [0, 1] of the image at `path`: the slice that `item` is (`slice`), or else the picture.

    A picture is read on the grid of the item (`width`, `height`), where it comes from a manifest.
    """
    return grey_slice(path, int(item["slice"])) if "slice" in item else read_grey(path, size=_grid(item))


def lesion_pixels(paths: Sequence[str | Path], item: Mapping[Any, Any]) -> np.ndarray:
    """The lesion bool (H, W): the union of a picture's masks at `paths`; of a slice, where its volume has the label `organ`.

    Where the item names no organ, any label counts.
    """
    if "slice" in item:
        labels = label_slice(paths[0], int(item["slice"]))
        return labels == int(item["organ"]) if "organ" in item else labels > 0
    return read_mask(paths, size=_grid(item))


def _grid(item: Mapping[Any, Any]) -> Size | None:
    """(width, height) of the item's scoring grid, if the item comes from a manifest."""
    return (int(item["width"]), int(item["height"])) if "width" in item else None
