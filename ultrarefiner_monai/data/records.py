"""What is known about each image of a release: the facts a manifest is made from.

A reader lists `Source`s (file names and labels, nothing opened); `measure` opens every file and completes them to
`Record`s. `inventory.py` makes the same records from a table instead.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from .errors import DataError, raise_problems
from .images import Size, lesion, open_image, to_grey, to_planes
from .manifest import resolve

if TYPE_CHECKING:
    from PIL import Image

HASH_SIZE = 16  # imagehash.phash(hash_size=16): 256 bits, as in the inventories (specs/data.md)

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Source:
    """One image as its release lists it; paths relative to the release root with `/`.

    `label` is "benign", "malignant", "normal" or "unknown"; `patient` is "" where the release tells none; `official` is
    the authors' split: "1".."5" a fold, "test", or "".
    """

    id: str
    image: str
    masks: tuple[str, ...]
    label: str
    patient: str = ""
    official: str = ""


@dataclass(frozen=True)
class Record:
    """A source and what its files hold. Sizes are (width, height) in pixels; hashes are hexadecimal.

    `mask_sizes` and `mask_sha256` go with `source.masks`; `lesion_pixels` counts the union of the masks (0 when their
    sizes differ); `phash16` is `imagehash.phash(image.convert("L"), hash_size=16)`.
    """

    source: Source
    size: Size
    mask_sizes: tuple[Size, ...]
    lesion_pixels: int
    sha256: str
    mask_sha256: tuple[str, ...]
    phash16: str


def measure(sources: Sequence[Source], root: Path) -> list[Record]:
    """Open every file of `sources` under `root`, in parallel; records come in the order of the sources.

    Raises one `DataError` listing all files that are missing, unreadable or linked out of the root.
    """
    outcomes = in_parallel(lambda source: _attempt(source, root), sources)
    raise_problems(f"release {root}", (outcome for outcome in outcomes if isinstance(outcome, str)))
    return [outcome for outcome in outcomes if isinstance(outcome, Record)]


def in_parallel(function: Callable[[In], Out], values: Iterable[In]) -> list[Out]:
    """Map in threads, results in the order of the values (Pillow and hashlib release the interpreter lock)."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, values))


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def phash16(image: "Image.Image") -> str:
    """Perceptual hash of a decoded image, 256 bits as 64 hexadecimal digits (Zauner 2010, as ImageHash computes it)."""
    from imagehash import phash
    from PIL import Image

    if image.mode.startswith("I"):  # PIL's conversion to "L" would clip 16-bit values instead of scaling them
        image = Image.fromarray(np.round(to_grey(image) * 255).astype(np.uint8))
    return str(phash(image.convert("L"), hash_size=HASH_SIZE))


def _attempt(source: Source, root: Path) -> Record | str:
    try:
        return _measure_one(source, root)
    except DataError as error:
        return f"{source.id}: {error}"


def _measure_one(source: Source, root: Path) -> Record:
    path = resolve(root, source.image)
    masks = [resolve(root, mask) for mask in source.masks]
    with open_image(path) as image:
        size, perceptual = image.size, phash16(image)
    planes = [_lesion_of(mask) for mask in masks]
    same_grid = len({plane.shape for plane in planes}) == 1
    return Record(
        source=source,
        size=size,
        mask_sizes=tuple((plane.shape[1], plane.shape[0]) for plane in planes),
        lesion_pixels=int(np.logical_or.reduce(planes).sum()) if same_grid else 0,
        sha256=file_sha256(path),
        mask_sha256=tuple(file_sha256(mask) for mask in masks),
        phash16=perceptual,
    )


def _lesion_of(path: Path) -> np.ndarray:
    with open_image(path) as image:
        return lesion(to_planes(image))
