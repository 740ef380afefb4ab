"""Masks among the images of a folder, told by the names that data sets give them."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

from ultrarefiner_monai.data.releases.roots import MADE

# Folders of masks, as `letters` has their names: of BUS-UCLM, BUS-UC and BUS-BRA (Masks), BUS (GT), and their like.
FOLDERS = frozenset(
    (
        "mask",
        "masks",
        "label",
        "labels",
        "gt",
        "gts",
        "groundtruth",
        "groundtruths",
        "annotation",
        "annotations",
        "seg",
        "segs",
        "segmentation",
        "segmentations",
    )
)
# What the name of a mask has behind that of its image in the same folder: "benign (4)_mask_1" (BUSI), and its like.
WORDS = frozenset(
    (
        "mask",
        "masks",
        "label",
        "labels",
        "gt",
        "groundtruth",
        "annotation",
        "annot",
        "seg",
        "segm",
        "segmentation",
        "lesion",
        "tumor",
        "tumour",
        "manual",
        "roi",
    )
)
_PARTS = "(?:train|training|val|validation|test|tr|ts)?"  # as in labelsTr (nnU-Net)
_FOLDER = re.compile(f"{_PARTS}(?:{'|'.join(sorted(FOLDERS))}){_PARTS}")
_FILE = re.compile(rf"(?P<image>.+)[ _.-](?:{'|'.join(sorted(WORDS))})(?:[ _.-]?\d+)?", re.IGNORECASE)


def letters(name: str) -> str:
    """A name without what only parts its words, in lower case."""
    return re.sub(r"[\W_]", "", name).casefold()


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
    folders = reversed(path.parents)
    return next((one.parent for one in folders if one.name == MADE or _FOLDER.fullmatch(letters(one.name))), None)
