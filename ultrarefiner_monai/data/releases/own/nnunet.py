"""nnU-Net's raw layout (Isensee et al. 2021), two-dimensional: `imagesTr/a_0000.png`, `labelsTr/a.png`, `dataset.json`.

`imagesTs` is the test set where `labelsTs` holds its labels. The channel of the image is the number at its end.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.releases.own.entries import Entry, Layout, OwnOptions, below, counted, lacking_masks
from ultrarefiner_monai.data.releases.roots import within
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import read_json

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}


def find(root: Path, files: Sequence[str], options: OwnOptions) -> Layout | None:
    """Cases of `imagesTr`, and of `imagesTs` where it has labels.

    Raises:
        DataError: no `dataset.json`, an ending that no picture has, several channels, or labels that are to be ignored.
    """
    folder = next((path.parent for depth in ("", "*/") for path in sorted(root.glob(f"{depth}imagesTr"))), None)
    if folder is None or options.masks:
        return None
    base = PurePosixPath(folder.relative_to(root).as_posix())
    about = read_json(within(root, folder / "dataset.json"), dict, "nnU-Net's raw data have one; copy it, too")
    _check(folder, about)
    entries = []
    for split, (images, labels) in FOLDERS.items():
        label_of = {PurePosixPath(path).stem: path for path in files if PurePosixPath(path).parent == base / labels}
        for path in files:
            name = CHANNEL.fullmatch(PurePosixPath(path).stem)
            if (
                PurePosixPath(path).parent == base / images
                and below(options.images, path)
                and (label_of or split == "train")
            ):
                if not name or int(name["channel"]):
                    raise DataError(
                        f"{path}: expected one channel, NAME_0000, found another name; name --images and --masks"
                    )
                label = label_of.get(name["case"])
                entries.append(Entry(path, (label,) if label else (), split))
    used = {path for entry in entries for path in (entry.image, *entry.masks)}
    if not entries:
        raise DataError(f"{folder}: no pictures in imagesTr; nnU-Net's dataset.json says {about.get('file_ending')!r}")
    notes = lacking_masks(entries, "labelsTr/NAME")
    if others := [path for path in files if path not in used]:
        notes.append(f"{len(others)} other pictures are left alone: {counted(others)}")
    return Layout(tuple(entries), "nnU-Net's raw data", tuple(notes))


def _check(folder: Path, about: dict) -> None:
    ending, labels = about.get("file_ending", ".nii.gz"), about.get("labels", {})
    if ending not in (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg"):
        raise DataError(
            f"{folder / 'dataset.json'}: images end with {ending!r}, which no picture has; build volumes as NIFTI, or save "
            "them as .png, one a slice"
        )
    if isinstance(labels, dict) and "ignore" in labels:
        raise DataError(
            f"{folder / 'dataset.json'}: label 'ignore': pixels cannot be left out; draw them or remove the cases"
        )
