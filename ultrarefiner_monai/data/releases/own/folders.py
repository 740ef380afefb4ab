"""Images and masks as files: in a folder each (`images/a.png`, `masks/a_mask.png`), or side by side in one.

The two folders may lie below others (`train/images`, `benign/masks`) or hold such (`images/train`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ultrarefiner_monai.data.masks_beside import FOLDERS, letters
from ultrarefiner_monai.data.releases.own.entries import (
    Entry,
    Layout,
    OwnOptions,
    below,
    class_of,
    counted,
    lacking_masks,
    split_of,
)
from ultrarefiner_monai.data.releases.own.stems import match, match_beside
from ultrarefiner_monai.errors import DataError, shown

IMAGES = frozenset(
    ("images", "image", "imgs", "img", "pictures", "frames", "original", "originals", "us", "ultrasound")
)


@dataclass
class _Pair:
    """Pictures of an image folder and of a mask folder with the same parent, by their paths below these."""

    images: dict[str, str] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    folders: dict[str, set[str]] = field(default_factory=lambda: {"images": set(), "masks": set()})


def find(root: Path, files: Sequence[str], options: OwnOptions) -> Layout | None:
    """Pairs of an image folder and a mask folder, or images with their masks beside them.

    Raises:
        DataError: folders or names that allow no image a mask, or several folders that could be meant.
    """
    pairs = {base: pair for base, pair in _pairs(files, options).items() if pair.images and pair.masks}
    for base, pair in pairs.items():
        _refuse_ambiguity(root, base, pair)
    found = _of_pairs(pairs) if pairs else _beside([path for path in files if below(options.images, path)])
    if not pairs and not any(found[0].values()):
        return None
    owners, words = found
    entries = [Entry(image, masks, split_of(image), class_of(image)) for image, masks in owners.items()]
    masks = sorted(PurePosixPath(path).name for pair in pairs.values() for path in pair.masks.values())
    places = sorted({f"{folder}/" for pair in pairs.values() for folder in pair.folders["masks"]})
    where = f"in {', '.join(places)}, found {shown(masks, 3)}" if pairs else "beside them"
    notes = lacking_masks(entries, f"the same name, or one suffix more, {where}")
    used = {path for entry in entries for path in (entry.image, *entry.masks)}
    if unused := [path for pair in pairs.values() for path in pair.masks.values() if path not in used]:
        notes.append(f"{len(unused)} masks have no image: {shown(unused, 3)}")
    used |= set(unused)
    if others := [path for path in files if path not in used]:
        notes.append(f"{len(others)} other pictures are left alone: {counted(others)}")
    description = f"images in {counted(entry.image for entry in entries)}; masks: {words}"
    return Layout(tuple(entries), description, tuple(notes))


def _pairs(files: Iterable[str], options: OwnOptions) -> dict[str, _Pair]:
    """Image and mask folders by their parent; all of one pair where the user names one of them."""
    named = bool(options.images or options.masks)
    pairs: dict[str, _Pair] = {}
    for path in files:
        if found := _place(path, options):
            kind, base, folder, rest = found
            pair = pairs.setdefault("" if named else base, _Pair())
            getattr(pair, kind)[rest] = path
            pair.folders[kind].add(folder)
    return pairs


def _place(path: str, options: OwnOptions) -> tuple[str, str, str, str] | None:
    """Whether a picture is in an image folder or a mask folder: which, the folder's parent, the folder, the path below."""
    for kind, folder in (("masks", options.masks), ("images", options.images)):
        if folder and below(folder, path) and options.images != options.masks:
            return kind, "", folder, PurePosixPath(path).relative_to(folder).as_posix()
    parts = PurePosixPath(path).parts
    for end in range(len(parts) - 1, 0, -1):
        name = letters(parts[end - 1])
        kind = (
            "masks"
            if name in FOLDERS and not options.masks
            else "images"
            if name in IMAGES and not options.images
            else ""
        )
        if kind:
            return kind, "/".join(parts[: end - 1]), "/".join(parts[:end]), "/".join(parts[end:])
    return None


def _refuse_ambiguity(root: Path, base: str, pair: _Pair) -> None:
    for kind, folders in pair.folders.items():
        if len(folders) > 1:
            raise DataError(
                f"several folders of {kind} in {root / base}: {', '.join(sorted(folders))}; name one with --{kind} FOLDER"
            )


def _of_pairs(pairs: Mapping[str, _Pair]) -> tuple[dict[str, tuple[str, ...]], str]:
    """Masks of each image, matched folder by folder, or over all of a pair where its masks lie in other folders."""
    owners: dict[str, tuple[str, ...]] = {}
    words: Counter[str] = Counter()
    for pair in pairs.values():
        found: dict[str, tuple[str, ...]] = {}
        for level in (_folder, lambda _: ""):
            for folder in {level(path) for path in pair.images}:
                images = {path: pair.images[path] for path in pair.images if level(path) == folder}
                masks = {path: pair.masks[path] for path in pair.masks if level(path) == folder}
                of_folder, told = _matched(images.values(), masks.values())
                found |= of_folder
                words[told] += sum(map(bool, of_folder.values()))
            if any(found.values()):
                break
        owners |= found
    return dict(sorted(owners.items())), words.most_common(1)[0][0]


def _matched(images: Iterable[str], masks: Iterable[str]) -> tuple[dict[str, tuple[str, ...]], str]:
    image_of, mask_of = (_by_stem(paths) for paths in (images, masks))
    found, told = match(sorted(image_of), sorted(mask_of)) if mask_of else ({}, "")
    return {
        path: tuple(mask for stem in found.get(name, ()) for mask in mask_of[stem]) if len(paths) == 1 else ()
        for name, paths in image_of.items()
        for path in paths
    }, told


def _beside(files: Iterable[str]) -> tuple[dict[str, tuple[str, ...]], str]:
    """Masks of each image, both in one folder; of pictures in other folders nothing is said."""
    folders: dict[str, list[str]] = {}
    for path in files:
        folders.setdefault(_folder(path), []).append(path)
    owners: dict[str, tuple[str, ...]] = {}
    words: Counter[str] = Counter()
    for paths in folders.values():
        of_stem = _by_stem(paths)
        found, told = match_beside(sorted(of_stem))
        masks = {mask for stems in found.values() for mask in stems}
        if not found and class_of(paths[0]) != "normal":
            continue
        words[told] += len(found)
        for stem, same in of_stem.items():
            if stem not in masks:
                own = tuple(mask for name in found.get(stem, ()) for mask in of_stem[name])
                owners |= dict.fromkeys(same, own)
    return dict(sorted(owners.items())), f"{words.most_common(1)[0][0]} beside them" if words else ""


def _by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        found.setdefault(PurePosixPath(path).stem, []).append(path)
    return found


def _folder(path: str) -> str:
    return PurePosixPath(path).parent.as_posix()
