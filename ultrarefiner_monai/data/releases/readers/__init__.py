"""One module a release layout; each lists the images of a release as `Source`s without opening them.

A reader module defines

    INFO: dict[str, Info]                    the datasets it reads, by name
    LAYOUTS: tuple[tuple[str, ...], ...]     alternative layouts: the entries a release folder must hold
    identify(image: str) -> str              id of an image from its relative path, unique in the release
    scan(root: Path) -> list[Source]         what the release folder `root` lists, in any order
    unread(root: Path) -> tuple[str, ...]    optional: folders that repeat images and are left alone
    labels(root: Path) -> dict[str, str]     of sets of volumes: name of each label by its number as text
    COPIES: dict[str, str]                   optional: tables of known copies beside the module, by name (`copies/known.py`)

and is registered in `READERS` by the name of its module, which is imported only when it is used. Data sets of other names
are a user's own: `releases/own` lists their images, and their root is the folder that the user names.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ultrarefiner_monai.data.datasets import VOLUMES, check_name, is_own, parts_of
from ultrarefiner_monai.data.decoders import FORMATS
from ultrarefiner_monai.data.releases.roots import Location, Root
from ultrarefiner_monai.errors import DataError, shown

READERS = {
    "BUSI": "busi",
    "BUSBRA": "busbra",
    "BUS": "bus",
    "BUS_UC": "bus_uc",
    "BUS_UCLM": "bus_uclm",
    "UDIAT": "bus",
    "PHANTOM": "phantom",
    "BTCV": "btcv",
    "AMOS": "amos",
    "NIFTI": "nifti",
}
DEPTH = 3  # levels of folders in which a release is looked for: unpackers like to add one or two
IMAGE_SUFFIXES = tuple(FORMATS)


@dataclass(frozen=True)
class Info:
    """What a manifest says about its dataset.

    `same_patient` maps patient codes that are known to be another code's person. `stretched` datasets hold images whose
    size differs from their mask's and that are stretched onto it; elsewhere such an image is excluded.
    `official_test` are the patients the authors published as their test set. `complete` are the numbers of images that
    releases of this name are known to hold.
    """

    description: str
    reference: str
    licence: str
    same_patient: Mapping[str, str] = field(default_factory=dict)
    stretched: bool = False
    official_test: frozenset[str] = frozenset()
    complete: tuple[int, ...] = ()
    modality: str = "ultrasound"


OWN = Info(description="a user's own data set", reference="not stated", licence="not stated")


def reader(name: str) -> ModuleType:
    """Module that reads the release `name`; `DataError` where it is none that is known."""
    check_name(name)
    if is_own(name):
        raise DataError(f"{name} is none of {', '.join(READERS)}: give --root FOLDER, from whose files it is built")
    return import_module(f"{__name__}.{READERS[name]}")


def info(name: str) -> Info:
    """Description, licence and known peculiarities of the dataset `name`."""
    return OWN if is_own(name) else reader(name).INFO[name]


def unread_folders(name: str, root: Path) -> tuple[str, ...]:
    """Folders of a release that repeat images of others and are left alone."""
    return () if is_own(name) else getattr(reader(name), "unread", lambda _: ())(root)


def label_table(name: str, root: Path) -> dict[str, str] | None:
    """Name of each label by its number as text, of a set of volumes; None of pictures."""
    return reader(name).labels(root) if name in VOLUMES else None


def find_root(name: str, location: Location) -> Root:
    """Where the files of the dataset `name` lie: its release folder, or one for each part of a combined data set.

    The root of a user's own data set is the folder itself, or what an archive holds.

    `location` is the release folder, a folder up to three levels above it, or an archive of either (unpacked into the
    cache). Of a combined data set it is a folder that holds all releases (`data` with `data/BUSI`, ...), or a mapping
    from each part's name to its own.

    Raises `DataError` that says which entries were looked for and what was found instead.
    """
    parts = parts_of(name)
    if isinstance(location, Mapping):
        if missing := [part for part in parts if part not in location]:
            raise DataError(f"{name}: no place given for {', '.join(missing)}, only for {', '.join(location)}")
        return {part: _find(part, Path(location[part])) for part in parts}
    if len(parts) == 1:
        return _find(name, Path(location))
    return {part: _find(part, Path(location), several=True) for part in parts}


def _find(name: str, folder: Path, several: bool = False) -> Path:
    """Release folder of a single data set at or below `folder`; a folder of the data set's own name goes first."""
    if folder.is_file():
        from ultrarefiner_monai.data.releases.archives import unpacked

        folder = unpacked(folder)
    if not folder.is_dir():
        raise DataError(f"{name}: {folder} is neither a folder nor an archive; name the folder of the unpacked release")
    own = folder / name
    if is_own(name):
        return own if several and own.is_dir() else folder
    layouts = reader(name).LAYOUTS
    for level in _levels(own if own.is_dir() and not _fits(folder, layouts) else folder):
        matches = [child for child in level if _fits(child, layouts)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(child.relative_to(folder).as_posix() for child in matches)
            raise DataError(f"{name}: several folders in {folder} look like the release ({names}); name one of them")
    wanted = " or ".join(" + ".join(layout) for layout in layouts)
    found = shown(sorted(child.name for child in folder.iterdir()), 8) or "nothing"
    raise DataError(
        f"{name}: looked for {wanted} in {folder} and its subfolders, found {found}; give data in another layout a name of"
        " your own"
    )


def _levels(folder: Path) -> Iterator[list[Path]]:
    """The folder, the folders in it, and so on, sorted; hidden ones and macOS's resource forks are no part of a release."""
    level = [folder]
    for _ in range(DEPTH + 1):
        yield level
        children = (child for parent in level for child in sorted(parent.iterdir()) if child.is_dir())
        level = [child for child in children if not child.name.startswith((".", "__MACOSX"))]


def list_images(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name; hidden files (macOS's `._*`) are no images."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if not path.name.startswith("."))


def paired(
    root: Path, images: str, masks: str, mask_stem: Callable[[str], str] = str
) -> list[tuple[str, tuple[str, ...]]]:
    """Relative paths of the images of folder `images` and of their masks in `masks` (none: empty).

    `mask_stem` gives the stem of an image's masks from its own; by default they are equal.
    """
    by_stem: dict[str, list[str]] = {}
    for path in list_images(root / masks):
        by_stem.setdefault(path.stem, []).append(f"{masks}/{path.name}")
    return [
        (f"{images}/{path.name}", tuple(by_stem.get(mask_stem(path.stem), ()))) for path in list_images(root / images)
    ]


def _fits(folder: Path, layouts: tuple[tuple[str, ...], ...]) -> bool:
    return any(all((folder / entry).exists() for entry in layout) for layout in layouts)
