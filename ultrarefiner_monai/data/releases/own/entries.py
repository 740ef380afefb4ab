"""What a layout of somebody's own tells of its images, and the options that help to read it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from ultrarefiner_monai.data.images import Size
from ultrarefiner_monai.data.releases.roots import unsafe
from ultrarefiner_monai.errors import DataError, shown

COLUMNS = ("image", "patient", "class", "split", "fold")  # of a table; what each is called there may be told
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
CLASSES = {"benign": "benign", "malignant": "malignant", "normal": "normal"}

Drawing = Callable[[Size], np.ndarray]  # the lesion as bool (H, W), for an image of the size (W, H)


@dataclass(frozen=True)
class OwnOptions:
    """How to read a data set of one's own; all paths but the table's are relative to its root.

    Args:
        images: folder of the images; of COCO, nnU-Net and US30K only those below it are taken.
        masks: folder of the masks.
        table: CSV file that tells more about the images.
        columns: names of its columns, by those of `COLUMNS` that are called otherwise than usual.
    """

    images: str | None = None
    masks: str | None = None
    table: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def check(self, name: str, root: Path) -> None:
        """Raise `DataError` where a folder is none below the root."""
        for option, folder in (("--images", self.images), ("--masks", self.masks)):
            if folder is None:
                continue
            if fault := unsafe(folder):
                raise DataError(f"{name}: {option}: {fault}; name a folder below {root}")
            if not (root / folder).is_dir():
                raise DataError(f"{name}: {option} {folder}: no such folder in {root}")

    @property
    def given(self) -> bool:
        """Whether any is."""
        return self != OwnOptions()


@dataclass(frozen=True)
class Entry:
    """One image as its layout lists it; paths relative to the root with `/`.

    `masks` are files, or `drawing` makes the mask from what `made_from` names. `split` is "train", "val", "test" or "";
    `label` a class or "unknown".
    """

    image: str
    masks: tuple[str, ...] = ()
    split: str = ""
    label: str = "unknown"
    drawing: Drawing | None = None
    made_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """All images of a layout, what it is in words, and what its user should know of it."""

    entries: tuple[Entry, ...]
    description: str
    notes: tuple[str, ...] = ()


def lacking_masks(entries: Sequence[Entry], looked_for: str) -> list[str]:
    """A note on images without a mask, which normal ones need not have; `DataError` where no image has one."""
    some = any(one.masks for one in entries)
    lacking = [one.image for one in entries if not one.masks and not (some and one.label == "normal")]
    text = f"{len(lacking)} of {len(entries)} images have no mask: {shown(lacking, 3)}; looked for {looked_for}"
    if not some:
        raise DataError(text)
    return [text] if lacking else []


def split_of(path: str) -> str:
    """The split that the folders of a path name: "train", "val", "test" or ""."""
    return next((SPLITS[part] for part in _folders(path) if part in SPLITS), "")


def class_of(path: str) -> str:
    """The class that the folders of a path name, or "unknown"."""
    return next((CLASSES[part] for part in _folders(path) if part in CLASSES), "unknown")


def below(folder: str | None, path: str) -> bool:
    """Whether a path lies in a folder, which it does in none (None)."""
    return folder is None or PurePosixPath(path).is_relative_to(PurePosixPath(folder))


def counted(paths: Iterable[str]) -> str:
    """Folders of the paths with the number of their files, for people."""
    folders = Counter(PurePosixPath(path).parent.as_posix() for path in paths)
    return ", ".join(f"{folder}/ ({count})" for folder, count in sorted(folders.items()))


def _folders(path: str) -> list[str]:
    return [part.casefold() for part in PurePosixPath(path).parts[:-1]]
