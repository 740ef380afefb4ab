"""COCO's JSON files (Lin et al. 2014): images, and annotations as polygons or run lengths, from which masks are drawn.

All annotations of an image are united, whatever their category; an image without any has no lesion.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ultrarefiner_monai.data.images import Size
from ultrarefiner_monai.data.releases.own.entries import CLASSES, SPLITS, Entry, Layout, OwnOptions, below, split_of
from ultrarefiner_monai.data.releases.own.rle import draw
from ultrarefiner_monai.data.releases.roots import unsafe
from ultrarefiner_monai.errors import DataError, raise_problems, shown
from ultrarefiner_monai.files import json_or_empty

LEVELS = (
    "*.json",
    "*/*.json",
)  # where the files lie: in the root, in `annotations`, or beside the images of each split
Annotation = dict[str, Any]


def find(root: Path, files: Sequence[str], options: OwnOptions) -> Layout | None:
    """Images of all JSON files in COCO's form.

    Raises:
        DataError: entries of another form, unsafe or unknown file names, or images listed twice.
    """
    if options.masks:
        return None
    read = {file: json_or_empty(file, dict, code=True) for level in LEVELS for file in sorted(root.glob(level))}
    documents = {file.relative_to(root).as_posix(): content for file, content in read.items() if _is_coco(content)}
    if not documents:
        return None
    locate = partial(_locate, set(files), _by_name(files), options.images)
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    for source, content in documents.items():
        categories = {one.get("id"): str(one.get("name", "")) for one in _objects(content.get("categories"))}
        annotations: dict[Any, list[Annotation]] = {}
        for annotation in _objects(content["annotations"]):
            annotations.setdefault(_key(annotation.get("image_id")), []).append(annotation)
        for image in _objects(content["images"]):
            try:
                path = locate(source, image.get("file_name"))
            except DataError as error:
                problems.append(f"{source}: {error}")
                continue
            if path is None:
                continue
            if path in entries:
                problems.append(f"{path}: listed in {entries[path].made_from[0]} and in {source}")
            entries[path] = _entry(source, path, annotations.get(_key(image.get("id")), []), categories)
    raise_problems(f"{len(problems)} of {len(problems) + len(entries)} images of {', '.join(documents)}", problems)
    if not entries:
        raise DataError(
            f"{', '.join(documents)}: no images listed{f' below {options.images}' if options.images else ''}"
        )
    return Layout(
        tuple(entries[path] for path in sorted(entries)), f"COCO: {', '.join(documents)}", _notes(entries, files)
    )


def _is_coco(content: dict[str, Any]) -> bool:
    return isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list)


def _objects(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _key(value: Any) -> str:
    return repr(value)  # numbers in most files, text in some


def _by_name(files: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in files:
        found.setdefault(PurePosixPath(path).name, []).append(path)
    return found


def _locate(files: set[str], by_name: dict[str, list[str]], images: str | None, source: str, name: Any) -> str | None:
    """The picture that an entry's `file_name` means: beside its JSON file, in the root, or the only one of that ending.

    None where it lies outside the folder `images` that the user has named. Raises `DataError` where there is none.
    """
    if fault := unsafe(name):
        raise DataError(f"file_name: {fault}")
    wanted = PurePosixPath(name)
    for place in (PurePosixPath(source).parent / wanted, wanted, *([PurePosixPath(images) / wanted] if images else [])):
        if place.as_posix() in files and below(images, place.as_posix()):
            return place.as_posix()
    ends = [path for path in by_name.get(wanted.name, ()) if f"/{path}".endswith(f"/{wanted.as_posix()}")]
    found = [path for path in ends if below(images, path)]
    if len(found) > 1:
        raise DataError(f"file_name {name!r} may be {shown(found, 3, ' or ')}; name the folder with --images")
    if not found and not ends:
        raise DataError(f"file_name {name!r}: no such picture")
    return found[0] if found else None


def _entry(source: str, path: str, annotations: list[Annotation], categories: dict[Any, str]) -> Entry:
    names = {categories.get(annotation.get("category_id"), "").casefold() for annotation in annotations}
    label = CLASSES.get(next(iter(names)), "unknown") if len(names) == 1 else "unknown" if names else "normal"
    split = split_of(path) or next((SPLITS[word] for word in _words(source) if word in SPLITS), "")
    return Entry(path, split=split, label=label, drawing=_drawing(annotations), made_from=(source,))


def _words(source: str) -> list[str]:
    """Words of a JSON file's path; COCO's own say "train2017"."""
    return "".join(letter if letter.isalpha() else " " for letter in source.casefold()).split()


def _drawing(annotations: list[Annotation]) -> Callable[[Size], np.ndarray]:
    def union(size: Size) -> np.ndarray:
        mask = np.zeros(size[::-1], dtype=bool)
        for annotation in annotations:
            try:
                mask |= draw(annotation.get("segmentation"), size)
            except DataError as error:
                raise DataError(f"annotation {annotation.get('id')!r}: {error}") from None
        return mask

    return union


def _notes(entries: dict[str, Entry], files: Sequence[str]) -> tuple[str, ...]:
    classes = Counter(entry.label for entry in entries.values())
    notes = []
    if classes["normal"]:
        notes.append(
            f"{classes['normal']} of {len(entries)} images have no annotation, or are called normal: no lesion"
        )
    if others := [path for path in files if path not in entries]:
        notes.append(f"{len(others)} pictures are in no COCO file: {shown(others, 3)}")
    return tuple(notes)
