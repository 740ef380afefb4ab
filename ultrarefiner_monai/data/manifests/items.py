"""The entries of a manifest: plain dictionaries in three lists."""

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
