"""The entries of a manifest: plain dictionaries in three lists."""

import hashlib
from collections.abc import Iterable
from typing import Any

SCHEMA = "ultrarefiner_monai/manifest/1"
LISTS = ("training", "testing", "normal")  # the lists of the file that hold items with files

Item = dict[str, Any]


def item_files(item: Item) -> list[str]:
    """Relative paths of an item's image and masks."""
    return [item["image"], *masks_of(item)]


def masks_of(item: Item) -> list[str]:
    """Relative paths of an item's masks, one or several."""
    return item["label"] if isinstance(item["label"], list) else [item["label"]]


def side_of(item: Item) -> str:
    """Where an item stands in the split: "fold 0", ..., or "testing", also for a normal that has no fold."""
    return f"fold {item['fold']}" if "fold" in item else "testing"


def place_of(key: str, item: Item) -> str:
    """Where an item of the list `key` belongs, in words: "fold 0", ..., "test" or "normal"."""
    return {"training": f"fold {item.get('fold')}", "testing": "test", "normal": "normal"}[key]


def is_volume(item: Item) -> bool:
    """Whether an item is a volume, whose slices are the images that a network sees."""
    return "depth" in item


def images_of(items: Iterable[Item]) -> list[Item]:
    """The images that items stand for: pictures as they are, and a volume's slices, from the lowest to the highest.

    A slice is the item of its volume with an `id` and a `sha256` of its own, which its range of grey values (`clip`) changes,
    `case`, the volume's id, `slice`, its index, and `name`, the path that its maps are called after; `spacing` is (y, x), as that
    of a picture, and `slice_spacing` that to the next one. In the sequence of its case (`sequence`) `position` is the index.
    """
    return [image for item in items for image in (_slices(item) if is_volume(item) else [item])]


def _slices(item: Item) -> list[Item]:
    folder = item["image"].removesuffix(".gz").removesuffix(".nii")
    seen = f" {item['clip'][0]:g} {item['clip'][1]:g}" if "clip" in item else ""
    return [
        {
            **item,
            "id": f"{item['id']}/{index:04d}",
            "sha256": hashlib.sha256(f"{item['sha256']} {index}{seen}".encode()).hexdigest(),
            "spacing": item["spacing"][1:],
            "slice_spacing": item["spacing"][0],
            "case": item["id"],
            "slice": index,
            "sequence": item["id"],
            "position": index,
            "name": f"{folder}/{index:04d}.nii",
        }
        for index in range(item["depth"])
    ]
