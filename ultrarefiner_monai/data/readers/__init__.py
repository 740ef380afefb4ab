"""One module a release layout; each lists the images of a release as `Source`s without opening them.

A reader module defines

    INFO: dict[str, Info]                    the datasets it reads, by name
    LAYOUTS: tuple[tuple[str, ...], ...]     alternative layouts: the entries a release folder must hold
    identify(image: str) -> str              id of an image from its relative path, unique in the release
    scan(root: Path) -> list[Source]         what the release folder `root` lists, in any order

and is registered in `READERS` by the name of its module, which is imported only when it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ..errors import DataError
from ..manifest import check_name
from ..records import Source

READERS = {
    "BUSI": "busi",
    "BUSBRA": "busbra",
    "BUS": "bus",
    "BUS_UC": "bus_uc",
    "BUS_UCLM": "bus_uclm",
    "UDIAT": "bus",
    "PHANTOM": "phantom",
}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Info:
    """What a manifest says about its dataset.

    `same_patient` maps patient codes that are known to be another code's person. `stretched` datasets hold images whose
    size differs from their mask's and that are stretched onto it; elsewhere such an image is excluded.
    `official_test` are the patients the authors published as their test set.
    """

    description: str
    reference: str
    licence: str
    same_patient: Mapping[str, str] = field(default_factory=dict)
    stretched: bool = False
    official_test: frozenset[str] = frozenset()


def reader(name: str) -> ModuleType:
    """Module that reads the dataset `name`."""
    check_name(name)
    return import_module(f"{__name__}.{READERS[name]}")


def info(name: str) -> Info:
    """Description, licence and known peculiarities of the dataset `name`."""
    return reader(name).INFO[name]


def find_root(name: str, folder: str | Path) -> Path:
    """Release folder of the dataset `name`: `folder` itself or one of its direct subfolders.

    Raises `DataError` that says which entries were looked for and what was found instead.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{name}: {folder} is not a folder; name the folder of the unpacked release")
    layouts = reader(name).LAYOUTS
    if _fits(folder, layouts):
        return folder
    matches = [child for child in sorted(folder.iterdir()) if child.is_dir() and _fits(child, layouts)]
    if len(matches) == 1:
        return matches[0]
    wanted = " or ".join(" + ".join(layout) for layout in layouts)
    if matches:
        names = ", ".join(child.name for child in matches)
        raise DataError(f"{name}: several folders in {folder} look like the release ({names}); name one of them")
    raise DataError(f"{name}: looked for {wanted} in {folder} and its subfolders, found {_listing(folder)}")


def list_images(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name; hidden files (macOS's `._*`) are no images."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if not path.name.startswith("."))


def paired(root: Path, images: str, masks: str) -> list[tuple[str, tuple[str, ...]]]:
    """Relative paths of the images of folder `images` and of the masks of the same stem in `masks` (none: empty)."""
    by_stem: dict[str, list[str]] = {}
    for path in list_images(root / masks):
        by_stem.setdefault(path.stem, []).append(f"{masks}/{path.name}")
    return [(f"{images}/{path.name}", tuple(by_stem.get(path.stem, ()))) for path in list_images(root / images)]


def _fits(folder: Path, layouts: tuple[tuple[str, ...], ...]) -> bool:
    return any(all((folder / entry).exists() for entry in layout) for layout in layouts)


def _listing(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir())
    shown = ", ".join(names[:8]) or "nothing"
    return f"{shown}, ... ({len(names)} entries)" if len(names) > 8 else shown


__all__ = ["READERS", "Info", "Source", "find_root", "info", "list_images", "paired", "reader"]
