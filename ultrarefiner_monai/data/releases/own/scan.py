"""What a folder of somebody's own data lists, in the terms of a release."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from ultrarefiner_monai.data.releases.own import coco, folders, nnunet, us30k
from ultrarefiner_monai.data.releases.own.entries import Drawing, Entry, Layout, OwnOptions
from ultrarefiner_monai.data.releases.own.table import Row, read_own_table
from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.data.releases.roots import MADE, unsafe
from ultrarefiner_monai.errors import DataError, shown

LAYOUTS = (us30k, nnunet, folders, coco)
LOOKED_FOR = (
    "a folder of images beside one of masks (images, masks; --images and --masks name others), masks beside their images"
    " (NAME_mask), COCO's JSON, nnU-Net's imagesTr and labelsTr, or US30K's MainPatient"
)


@dataclass(frozen=True)
class Listing:
    """The images of a data set of one's own.

    `drawings` make the masks of those that have no files, by id. `description` tells the layout, `notes` what a user should
    know of it.
    """

    sources: tuple[Source, ...]
    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    description: str = ""
    notes: tuple[str, ...] = ()


def scan(name: str, root: Path, options: OwnOptions) -> Listing:
    """List the images below `root`; nothing but tables and lists is opened.

    An image's id is its path below the folder that all share, without its suffix.

    Raises:
        DataError: no layout is recognised, or the one that is cannot be read.
    """
    options.check(name, root)
    every, links = _pictures(root)
    files = [path for path in every if not unsafe(path)]
    try:
        layout = _layout(root, files, options)
        if layout is None:
            raise DataError(_nothing(root, files, links))
        rows: dict[str, Row] = {}
        notes = [*layout.notes]
        if odd := [fault for path in every if (fault := unsafe(path))]:
            notes.append(f"{len(odd)} pictures are left alone, rename them: {shown(odd, 3)}")
        if options.table:
            rows, more = read_own_table(options.table, options.columns, [entry.image for entry in layout.entries])
            notes += more
    except DataError as error:
        named = DataError(f"{name}: {error}")
        named.problems = error.problems
        raise named from None
    drawings, more = _drawings(layout.entries, labels := _labels(layout.entries, rows))
    notes += more
    published = _published(layout.entries, rows)
    ids = _ids([entry.image for entry in layout.entries])
    sources = tuple(
        Source(
            id=ids[entry.image],
            image=entry.image,
            masks=entry.masks,
            label=labels[entry.image],
            patient=rows.get(entry.image, {}).get("patient", ""),
            official=published.get(entry.image, ""),
            made_from=entry.made_from,
        )
        for entry in layout.entries
    )
    notes += _about_patients(sources)
    return Listing(sources, {ids[image]: one for image, one in drawings.items()}, layout.description, tuple(notes))


def _pictures(root: Path) -> tuple[list[str], list[str]]:
    """Relative paths of the pictures below a folder, and of its folders that are links, which are not followed."""
    files: list[str] = []
    links: list[str] = []
    for folder, names, found in os.walk(root):
        here = Path(folder)
        names[:] = sorted(one for one in names if not one.startswith((".", "__MACOSX")) and (here / one) != root / MADE)
        links += [(here / one).relative_to(root).as_posix() for one in names if (here / one).is_symlink()]
        files += [
            (here / one).relative_to(root).as_posix()
            for one in found
            if not one.startswith(".") and PurePosixPath(one).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(files), links


def _layout(root: Path, files: Sequence[str], options: OwnOptions) -> Layout | None:
    return next((layout for module in LAYOUTS if (layout := module.find(root, files, options))), None)


def _nothing(root: Path, files: Sequence[str], links: Sequence[str]) -> str:
    """Why no image has a mask."""
    followed = f"; links to folders are not followed: {shown(links, 3)}" if links else ""
    if files:
        count = f"{len(files)} of {len(files)} pictures have no mask"
        return f"{count}: looked for {LOOKED_FOR} in {root}, found {shown(files, 4)}{followed}"
    found = shown(sorted(child.name for child in root.iterdir()), 8) or "nothing"
    endings = ", ".join(IMAGE_SUFFIXES)
    return f"no pictures ({endings}) in {root}, found {found}{followed}; looked for {LOOKED_FOR}"


def _ids(images: Sequence[str]) -> dict[str, str]:
    shared = os.path.commonpath([PurePosixPath(image).parent.as_posix() for image in images])
    return {image: PurePosixPath(image).relative_to(shared).with_suffix("").as_posix() for image in images}


def _labels(entries: Sequence[Entry], rows: Mapping[str, Row]) -> dict[str, str]:
    """Class of each image: the table's, or the layout's where that says nothing."""
    told = {image: row.get("class", "unknown") for image, row in rows.items()}
    return {entry.image: told.get(entry.image, "unknown").replace("unknown", entry.label) for entry in entries}


def _drawings(entries: Sequence[Entry], labels: Mapping[str, str]) -> tuple[dict[str, Drawing], list[str]]:
    """What draws the masks that there are no files of, among them blank ones of normal images, and how many are these."""
    drawings = {entry.image: entry.drawing for entry in entries if entry.drawing}
    blank = [
        entry.image for entry in entries if not entry.masks and not entry.drawing and labels[entry.image] == "normal"
    ]
    notes = [f"{len(blank)} normal images have no mask: a blank one is made"] if blank else []
    return drawings | dict.fromkeys(blank, lambda size: np.zeros(size[::-1], dtype=bool)), notes


def _published(entries: Sequence[Entry], rows: Mapping[str, Row]) -> dict[str, str]:
    """`Source.official` of each image: of its split by table or folder, and of its fold by table.

    Where there are validation images they are the first fold and the training images the second, so that fold 0 trains on the
    one and validates on the other.
    """
    split = {entry.image: rows.get(entry.image, {}).get("split") or entry.split for entry in entries}
    fold = {image: row.get("fold", "") for image, row in rows.items()}
    if any(fold.values()):
        return {image: "test" if split[image] == "test" else fold.get(image, "") for image in split}
    words = {"test": "test", "val": "1", "train": "2" if "val" in split.values() else "train", "": ""}
    return {image: words[where] for image, where in split.items()}


def _about_patients(sources: Sequence[Source]) -> list[str]:
    unknown = sum(not source.patient for source in sources)
    if not unknown:
        return []
    return [
        f"patients of {unknown} of {len(sources)} images are not known: images of one patient can lie in several folds and in"
        " the test set; near-duplicates are kept together, --table FILE tells patients"
    ]
