"""Checking a release against its manifest: every listed file is read, every fault is told, in one list."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ultrarefiner_monai.data.datasets import is_own
from ultrarefiner_monai.data.faults import Fault, Problem
from ultrarefiner_monai.data.images import Size, lesion
from ultrarefiner_monai.data.integrity.found_copies import faults_of, found_copies
from ultrarefiner_monai.data.integrity.listed_files import Reading, read_listed
from ultrarefiner_monai.data.integrity.report import Report
from ultrarefiner_monai.data.manifests.items import LISTS, Item, is_volume, item_files, masks_of, place_of
from ultrarefiner_monai.data.manifests.manifest import read_document
from ultrarefiner_monai.data.manifests.validate import document_faults, listed_paths, top_faults, well_formed
from ultrarefiner_monai.data.mask_checks import mask_problem, remedy
from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES, find_root, reader, unread_folders
from ultrarefiner_monai.data.releases.roots import MADE, Location, Root, folders_of, unsafe
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.parallel import in_parallel

ILLEGIBLE = (
    "unsafe_path",
    "missing",
    "empty",
    "truncated",
    "unreadable",
)  # kinds of faults after which no image is left
CHANGED = "sha256 differs from the manifest's"


def verify(
    path: str | Path,
    location: Location,
    allow_missing: bool = False,
    workers: int | None = None,
    progress: str = "",
    copies: bool = False,
) -> Report:
    """Check a manifest, also one that `load_manifest` refuses, and every file it lists.

    Args:
        path: the manifest file.
        location: where the release lies, as for `find_root`.
        allow_missing: an absent file is no fault.
        workers: threads; None is one a core.
        progress: name of a progress bar; none where empty.
        copies: search the images that can be read for copies, too, which takes minutes.

    Raises:
        DataError: the manifest is no JSON, or there is no such release at `location`.
    """
    document, sha256 = read_document(Path(path))
    if unreadable := top_faults(document):
        return Report(Path(path).stem, sha256, 0, 0, {}, tuple(unreadable))
    faults = document_faults(document)
    known = well_formed(document)
    root = find_root(known["name"], location)
    placed = [(place_of(key, item), item) for key in LISTS for item in known[key]]
    of_items = in_parallel(lambda pair: item_faults(pair[1], root), placed, workers, progress)
    lacking = (where for (where, _), found in zip(placed, of_items, strict=True) if any(map(_is_missing, found)))
    absent = Counter(lacking)
    present = len(placed) - absent.total()
    faults += [fault for found in of_items for fault in found if not (allow_missing and _is_missing(fault))]
    faults += extra_files(listed_paths(document), known, root)
    entries = sum(len(document[key]) for key in LISTS)
    found = None
    if copies:
        known_faults = zip((item for _, item in placed), of_items, strict=True)
        legible = {item["image"]: item for item, those in known_faults if _is_legible(item, those)}
        found = found_copies(list(legible.values()), root, workers)
        faults += faults_of(found)
    every = tuple(dict.fromkeys(faults))
    return Report(known["name"], sha256, entries, present, dict(sorted(absent.items())), every, found)


def item_faults(item: Item, root: Root) -> list[Fault]:
    """Faults of one item's image and masks, at most one a file: what is most particular about it.

    That a file's bytes were changed is a fault of its own only where nothing else is wrong with it. Volumes were looked at when
    their manifest was built, which takes seconds each: of theirs the bytes are compared.
    """
    hashes = item.get("label_sha256", [None] * len(masks_of(item)))
    expected = [item["sha256"], *(hashes if isinstance(hashes, list) else [hashes])]
    listed = zip(item_files(item), expected, strict=True)
    readings = [read_listed(root, path, sha256, decoded=not is_volume(item)) for path, sha256 in listed]
    if not is_volume(item):
        _compare(item, readings)
    found = ((reading.path, _with_hash(reading)) for reading in readings)
    return [Fault(p.kind, item["id"], "" if unsafe(path) else path, p.message) for path, p in found if p]


def _compare(item: Item, readings: Sequence[Reading]) -> None:
    """Give the image and masks of an item that differ from what the manifest says a problem."""
    image, *masks = readings
    grid = (item["width"], item["height"])
    image.problem = image.problem or _size_problem(image, tuple(item.get("image_size", grid)), "size")
    for mask in masks:
        kind = "size" if mask.size == image.size else "mask_size"
        mask.problem = mask.problem or _size_problem(mask, grid, kind) or _pixel_problem(mask)
    if not any(mask.problem for mask in masks):
        _check_lesion(item, masks)


def extra_files(listed: set[str], document: Mapping[str, Any], root: Root) -> list[Fault]:
    """Images under `root` that are neither `listed` nor excluded by the manifest; hidden files are no images.

    Of a user's own data set only the folders that hold listed files are looked at: others are not the data set's.
    """
    excluded = {item["id"] for item in document["excluded"]}
    faults = []
    for prefix, folder in folders_of(root).items():
        name = prefix[:-1] or document["name"]
        try:
            named = any(key.startswith(prefix) for key in excluded)  # by their id alone, whose files the reader tells
            sources = reader(name).scan(folder) if named and not is_own(name) else []
            known = listed | {
                prefix + path for s in sources if prefix + s.id in excluded for path in (s.image, *s.masks)
            }
        except DataError as error:
            known = listed
            message = str(error).replace(f"{folder}/", prefix)
            faults.append(Fault("structure", "", "", f"files of excluded images cannot be told: {message}"))
        found = sorted(prefix + path for path in _image_files(folder, (*unread_folders(name, folder), MADE)))
        if is_own(name):
            folders = {PurePosixPath(path).parent for path in known}
            found = [path for path in found if PurePosixPath(path).parent in folders]
        faults += [Fault("extra", "", p, "extra, the manifest does not list it") for p in found if p not in known]
    return faults


def _image_files(folder: Path, unread: Sequence[str]) -> Iterator[str]:
    """Relative paths of the images below a release folder, but for hidden ones and those of `unread` folders."""
    for file in folder.rglob("*"):
        path = file.relative_to(folder)
        if (
            path.parts[0] not in unread
            and file.suffix.lower() in IMAGE_SUFFIXES
            and file.name[0] != "."
            and file.is_file()
        ):
            yield path.as_posix()


def _is_legible(item: Item, faults: Sequence[Fault]) -> bool:
    """Whether the image of an item with these faults can be looked at."""
    return not any(fault.kind in ILLEGIBLE and fault.file in (item["image"], "") for fault in faults)


def _is_missing(fault: Fault) -> bool:
    return fault.kind == "missing"


def _size_problem(reading: Reading, expected: Size, kind: str) -> Problem | None:
    if reading.size == expected:
        return None
    (width, height), (found_width, found_height) = expected, reading.size
    return Problem(kind, f"size: expected {width}x{height}, found {found_width}x{found_height}")


def _pixel_problem(mask: Reading) -> Problem | None:
    if not (found := mask_problem(mask.planes, mask.alpha)):
        return None
    return Problem(found.kind, f"{found.message}; {remedy(found)}" if found.kind == "mask_meaning" else found.message)


def _check_lesion(item: Item, masks: Sequence[Reading]) -> None:
    """Give the masks that are to blame a problem where their union has not the lesion pixels of the manifest."""
    lesions = [lesion(mask.planes) for mask in masks]
    pixels = int(np.logical_or.reduce(lesions).sum())
    expected = item.get("lesion_pixels")
    if pixels == expected or (expected is None and (pixels or item["class"] == "normal")):
        return
    blank = [mask for mask, part in zip(masks, lesions, strict=True) if not part.any()] if expected != 0 else []
    for mask in blank:
        wanted = "lesion pixels" if expected is None else f"{expected} lesion pixels"
        mask.problem = Problem("blank", f"mask is blank: expected {wanted}")
    if not blank:
        blamed = next((mask for mask in masks if mask.changed), masks[0])
        blamed.problem = Problem("lesion", f"lesion pixels: expected {expected}, found {pixels}")


def _with_hash(reading: Reading) -> Problem | None:
    """The reading's problem, with what its hash says about it."""
    problem = reading.problem
    if not reading.changed or (problem and problem.kind == "empty"):
        return problem
    if problem is None:
        return Problem("hash", f"{CHANGED}, the file was changed")
    if problem.kind == "lesion":
        return Problem("hash", f"{CHANGED}, the file was changed; {problem.message}")
    return Problem(problem.kind, f"{problem.message}; {CHANGED}")
