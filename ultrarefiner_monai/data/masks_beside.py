"""Masks among the images of a folder, told by the names that data sets give them."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

# Folders of masks: "masks" (BUS-UCLM, BUS-UC), "Masks" (BUS-BRA), "GT" (BUS), "labelsTr" (nnU-Net), and their like.
_PARTS = r"(?:train|training|val|validation|test|tr|ts)"
_FOLDER = re.compile(
    rf"(?:{_PARTS}[ _-]?)?(?:gt|ground[ _-]?truths?|masks?|labels?|segmentations?|annotations?)(?:[ _-]?{_PARTS})?",
    re.IGNORECASE,
)
# Masks in the folder of their image: "benign (4)_mask_1" (BUSI), and its like.
_FILE = re.compile(r"(?P<image>.+)[ _.-](?:mask|gt|label|seg|segmentation)s?(?:[ _.-]?\d+)?", re.IGNORECASE)


def masks_among(files: Iterable[Path], folder: Path, stem: Callable[[str], str]) -> set[Path]:
    """The masks among image files below `folder`.

    A mask is `NAME_mask` in the folder of an image NAME, or lies in a folder of masks that is beside images. What `folder`
    itself is called does not matter.

    Args:
        files: image files below `folder`.
        folder: where they were looked for.
        stem: a file's name without the suffix of an image.
    """
    paths = {file: file.relative_to(folder) for file in files}
    where = {file: _folder_of_masks(path) for file, path in paths.items()}
    images_in = {parent for file, path in paths.items() if where[file] is None for parent in path.parents}
    stems = {(path.parent, stem(path.name)) for path in paths.values()}
    return {
        file
        for file, path in paths.items()
        if (where[file] is not None and where[file] in images_in)
        or ((match := _FILE.fullmatch(stem(path.name))) and (path.parent, match["image"]) in stems)
    }


def _folder_of_masks(path: PurePath) -> PurePath | None:
    """What holds the first folder of masks on the way to a file; None where there is none."""
    return next((parent.parent for parent in reversed(path.parents) if _FOLDER.fullmatch(parent.name)), None)
