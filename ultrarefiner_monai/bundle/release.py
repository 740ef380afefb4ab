"""The files of a run's data set: found, complete and sound before anything is trained or written."""

import logging
import os
import shutil
from pathlib import Path

from ultrarefiner_monai.data.errors import DataError
from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.data.manifest import Manifest, available, load_manifest, shipped_manifest
from ultrarefiner_monai.data.phantom import generate_phantom
from ultrarefiner_monai.data.records import in_parallel
from ultrarefiner_monai.data.verify import item_faults

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SHOWN = 5  # faults told in one line before it refers to `manifests verify`


def read_manifest(dataset: str, path: str | None, fold: int) -> Manifest:
    """The manifest of ``dataset``, from ``path`` or as shipped.

    Raises:
        DataError: unknown data set, unreadable manifest, another data set's manifest, or a fold it does not have.
    """
    manifest = load_manifest(path or shipped_manifest(dataset))
    if manifest.name != dataset:
        raise DataError(f"manifest {path} is of {manifest.name}, asked for {dataset}; set dataset to {manifest.name}")
    if fold not in range(manifest.num_folds):
        raise DataError(f"fold {fold} of {dataset}: expected 0 to {manifest.num_folds - 1}")
    return manifest


def sound_items(manifest: Manifest, root: Path, allow_missing: bool) -> tuple[Manifest, dict[str, int]]:
    """Read every listed file and refuse faulty ones.

    Args:
        manifest: what is expected.
        root: the release folder.
        allow_missing: drop items of which a file is absent.

    Returns:
        The manifest of what is there, and how many items of each fold are absent.

    Raises:
        DataError: one line with the first faults and the command that lists all.
    """
    absent: dict[str, int] = {}
    if allow_missing:
        manifest, absent = available(manifest, root)
        if absent:
            counts = ", ".join(f"{name} {count}" for name, count in absent.items())
            logger.warning("%s is incomplete, absent items: %s", manifest.name, counts)
    faults = [fault for found in in_parallel(lambda item: item_faults(item, root), manifest.items()) for fault in found]
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        shown = "; ".join(faults[:SHOWN])
        raise DataError(
            f"{manifest.name} at {root}: {shown}{more}; see 'ultrarefiner manifests verify {manifest.name}'"
        )
    return manifest, absent


def make_phantom(folder: Path) -> None:
    """Write the embedded synthetic data set at ``folder`` unless it is there; an interrupted try leaves nothing behind."""
    if folder.is_dir():
        return
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        generate_phantom(unfinished)
        if not folder.is_dir():  # another process may have been quicker
            unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def find_pictures(source: str) -> list[Path]:
    """The picture file ``source``, or all pictures of the folder ``source``, sorted by name, each of them readable.

    Raises:
        DataError: there is no picture, one cannot be read, or two would write the same mask.
    """
    path = Path(source)
    listed = [path] if path.is_file() else [p for p in sorted(path.glob("*")) if not p.name.startswith(".")]
    found = [picture for picture in listed if picture.suffix.lower() in PICTURE_SUFFIXES]
    if not found:
        raise DataError(f"{source}: no picture there; expected a file or a folder with {', '.join(PICTURE_SUFFIXES)}")
    stems = [picture.stem for picture in found]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise DataError(
            f"{source}: several pictures named {', '.join(doubled)}, whose masks would overwrite each other"
        )
    for picture in found:
        read_grey(picture)
    return found
