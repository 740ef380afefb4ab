"""Checking a release against its manifest: every listed file is read, every fault is told."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import DataError
from .images import lesion, open_image, to_planes
from .manifest import Item, Manifest, item_files, masks_of, resolve
from .readers import IMAGE_SUFFIXES, find_root, reader
from .records import file_sha256, in_parallel


def verify(manifest: Manifest, root: str | Path, allow_missing: bool = False) -> list[str]:
    """Read all files of a manifest under `root` and return every fault, in order of the items; empty when all is well.

    Reported are missing and extra files, changed bytes, unreadable images, sizes that differ from the manifest's, masks
    with more than one value beside 0, blank masks and lesions in normals. With `allow_missing` an absent file is no
    fault.
    `root` is the release folder or its parent; raises `DataError` if it is neither.
    """
    root = find_root(manifest.name, root)
    faults = in_parallel(lambda item: item_faults(item, root, allow_missing), manifest.items())
    return [fault for of_item in faults for fault in of_item] + extra_files(manifest, root)


def item_faults(item: Item, root: Path, allow_missing: bool = False) -> list[str]:
    """Faults of one item's image and masks."""
    name, grid = item["id"], (item["width"], item["height"])
    hashes = item.get("label_sha256", [None] * len(masks_of(item)))
    hashes = hashes if isinstance(hashes, list) else [hashes]
    faults, masks = [], []
    for path, expected in zip(item_files(item), [item["sha256"], *hashes], strict=False):
        try:
            if not (file := resolve(root, path)).is_file():
                faults += [] if allow_missing else [f"{name}: {path}: missing"]
                continue
            if expected and file_sha256(file) != expected:
                faults.append(f"{name}: {path}: sha256 differs from the manifest's, the file was changed")
            is_image = path == item["image"]
            size, planes = _read(file)
        except (DataError, OSError) as error:
            faults.append(f"{name}: {error}")
            continue
        faults += _size_fault(item, path, size, tuple(item.get("image_size", grid)) if is_image else grid)
        if not is_image:
            faults += _value_fault(item, path, planes)
            masks.append(lesion(planes))
    return faults + (_lesion_fault(item, masks) if len(masks) == len(masks_of(item)) else [])


def extra_files(manifest: Manifest, root: Path) -> list[str]:
    """Image files under `root` that the manifest neither lists nor excludes."""
    listed = {path for item in manifest.items() for path in item_files(item)}
    if excluded := {item["id"] for item in manifest.excluded}:
        for source in reader(manifest.name).scan(root):
            listed.update((source.image, *source.masks) if source.id in excluded else ())
    files = (path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    found = sorted(path.relative_to(root).as_posix() for path in files if not path.name.startswith("."))
    return [f"{path}: extra, the manifest does not list it" for path in found if path not in listed]


def _read(path: Path) -> tuple[tuple[int, int], np.ndarray]:
    with open_image(path) as image:
        return image.size, to_planes(image)


def _size_fault(item: Item, path: str, found: tuple[int, int], expected: tuple[int, ...]) -> list[str]:
    if found == expected:
        return []
    sizes = f"expected {expected[0]}x{expected[1]}, found {found[0]}x{found[1]}"
    return [f"{item['id']}: {path}: size differs from the manifest's: {sizes}"]


def _value_fault(item: Item, path: str, planes: np.ndarray) -> list[str]:
    """A mask holds one colour beside black; anything else is read by the half-way rule of `images.read_mask`."""
    lit = planes[planes.any(axis=2)]
    if (lit == lit[:1]).all():
        return []
    lit = np.unique(lit, axis=0)
    shown = ", ".join(str(tuple(colour.tolist())) for colour in lit[:4]) + ", ..." * (len(lit) > 4)
    return [f"{item['id']}: {path}: mask values: expected one beside 0, found {len(lit)}: {shown}"]


def _lesion_fault(item: Item, masks: Sequence[np.ndarray]) -> list[str]:
    if len({mask.shape for mask in masks}) != 1:
        return []  # already told as a size fault
    pixels = int(np.logical_or.reduce(masks).sum())
    expected = item.get("lesion_pixels")
    if expected is None or pixels == expected:
        return []
    if pixels == 0:
        return [f"{item['id']}: mask is blank: expected {expected} lesion pixels"]
    return [f"{item['id']}: lesion pixels: expected {expected}, found {pixels}"]
