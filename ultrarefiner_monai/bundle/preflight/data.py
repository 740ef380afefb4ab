"""The files of a run's data set: found, complete and sound before anything is trained or written."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ultrarefiner_monai.bundle.preflight.request import Request, Substitutions
from ultrarefiner_monai.data.datasets import parts_of
from ultrarefiner_monai.data.decoding import TURNED
from ultrarefiner_monai.data.images import open_image, to_grey
from ultrarefiner_monai.data.integrity.verification import item_faults
from ultrarefiner_monai.data.manifests.items import LISTS
from ultrarefiner_monai.data.manifests.manifest import Manifest, available, load_manifest, shipped_manifest
from ultrarefiner_monai.data.masks_beside import masks_among
from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES, find_root
from ultrarefiner_monai.data.releases.roots import Root, folders_of
from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.files import write_json
from ultrarefiner_monai.parallel import in_parallel
from ultrarefiner_monai.schemas import TEXT, TEXTS, list_of, object_of

logger = logging.getLogger(__name__)

SHOWN = 5  # faults told before a message refers to the whole list
EXCLUDED = "excluded.json"
LEFT_OUT = list_of(object_of({"id": TEXT, "reasons": TEXTS}))


@dataclass(frozen=True)
class FoundData:
    """The data set of a run.

    Args:
        name: of the data set, which may have taken another's place.
        manifest: its items, without absent and excluded ones.
        root: where its files lie.
        folder: the same as the user may name it.
        absent: number of absent items of each fold and list.
        excluded: items that are left out: `{"id", "reasons"}` each.
        embedded: whether it is the embedded phantom, used because no data root was named.
        epochs: number of epochs, which are fewer where the phantom took another data set's place.
    """

    name: str
    manifest: Manifest
    root: Root
    folder: str
    absent: Mapping[str, int]
    excluded: Sequence[dict[str, Any]]
    embedded: bool
    epochs: int


def find_data(request: Request, fold: int, substitutions: Substitutions) -> FoundData:
    """Find and check the data set of a request; the phantom takes its place where no data root is known.

    Raises:
        DataError: no such data set, fold or folder, or files that are absent or faulty.
    """
    name, epochs = request.dataset, request.epochs
    manifest = read_manifest(name, request.manifest, fold, request.manifests)
    if request.data_root is not None and not Path(request.data_root).exists():
        raise DataError(f"data root {request.data_root}: no such folder; --data_root names the release of {name}")
    found = request.data_root or default_place(request.project, name)
    if found is None and name != "PHANTOM":
        substitutions.add(
            f"no data root for {name} (--data_root FOLDER), the synthetic PHANTOM takes its place: not a medical result"
        )
        short = min(epochs, request.stage.short_schedule)
        if request.mode == "train" and short < epochs:
            substitutions.add(f"{short} epochs in place of {epochs}")
            epochs = short
        name, manifest = "PHANTOM", read_manifest("PHANTOM", None, fold, request.manifests)
    embedded = request.data_root is None and name == "PHANTOM"
    folder = make_phantom(request.project / "data" / "PHANTOM") if embedded else Path(str(found)).resolve()
    root = find_root(name, folder)
    for line in manifest.header.get("warnings", ()):
        if TURNED in line:
            logger.warning("%s: %s", name, line)
    absent: dict[str, int] = {}
    if request.allow_missing:
        manifest, absent = present_items(manifest, root)
    try:
        manifest, excluded = sound_items(manifest, root, request.skip_bad)
    except DataError as error:
        if not embedded:
            raise
        raise DataError(f"{error}; remove {folder} to have the phantom made anew") from None
    shown_folder = str(folder if isinstance(root, Mapping) else root)
    return FoundData(name, manifest, root, shown_folder, absent, excluded, embedded, epochs)


def read_manifest(dataset: str, path: str | None, fold: int, folder: Path | None = None) -> Manifest:
    """The manifest of `dataset`, from the file `path`, or as shipped in `folder`.

    Raises:
        DataError: unknown data set, unreadable manifest, another data set's manifest, or a fold it does not have.
    """
    manifest = load_manifest(path or shipped_manifest(dataset, folder))
    if manifest.name != dataset:
        raise DataError(f"manifest {path} is of {manifest.name}, asked for {dataset}; set dataset to {manifest.name}")
    if fold not in range(manifest.num_folds):
        raise DataError(f"fold {fold} of {dataset}: expected 0 to {manifest.num_folds - 1}")
    return manifest


def default_place(project: Path, dataset: str) -> Path | None:
    """Where `dataset` lies unless the user says otherwise, None where it does not.

    `data/<dataset>` of the project, or `data` for a combined data set, each of whose parts has its folder there.
    """
    data, parts = project / "data", parts_of(dataset)
    if not all((data / part).is_dir() for part in parts):
        return None
    return data / dataset if len(parts) == 1 else data


def present_items(manifest: Manifest, root: Root) -> tuple[Manifest, dict[str, int]]:
    """The manifest of the items whose files are there, and how many of each fold are absent, of which a warning tells."""
    manifest, absent = available(manifest, root)
    if absent:
        counts = ", ".join(f"{name} {count}" for name, count in absent.items())
        logger.warning("%s is incomplete, absent items: %s", manifest.name, counts)
    return manifest, absent


def sound_items(manifest: Manifest, root: Root, skip_bad: bool = False) -> tuple[Manifest, list[dict[str, Any]]]:
    """Read every listed file and refuse, or leave out, items with faulty ones.

    What would make the split unsafe (ids twice, groups in two folds) never comes here: no such manifest loads.

    Args:
        manifest: what is expected.
        root: where its files lie.
        skip_bad: leave faulty items out; a warning names each of the first ones.

    Returns:
        The manifest of what is sound, and what is left out: `{"id", "reasons"}` each.

    Raises:
        DataError: one line with the first faults and the command that lists all.
    """
    items = manifest.items()
    found = in_parallel(lambda item: item_faults(item, root), items)
    bad = {item["id"]: [str(fault) for fault in faults] for item, faults in zip(items, found, strict=True) if faults}
    if bad and not skip_bad:
        told = shown([fault for faults in bad.values() for fault in faults], SHOWN, "; ")
        raise DataError(
            f"{manifest.name} at {', '.join(map(str, folders_of(root).values()))}: {told}; see 'ultrarefiner manifests "
            f"verify {manifest.name}', or leave these items out with --skip_bad true"
        )
    for faults in list(bad.values())[:SHOWN]:
        logger.warning("left out: %s", "; ".join(faults))
    if len(bad) > SHOWN:
        logger.warning("left out: %d more items, see %s", len(bad) - SHOWN, EXCLUDED)
    kept: dict[str, Any] = {name: [item for item in getattr(manifest, name) if item["id"] not in bad] for name in LISTS}
    return replace(manifest, **kept), [{"id": name, "reasons": faults} for name, faults in bad.items()]


def write_excluded(excluded: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write `folder/excluded.json`, what a run has left out and why; remove an earlier run's where this one has all."""
    path = folder / EXCLUDED
    if excluded:
        write_json(path, excluded)
    else:
        path.unlink(missing_ok=True)


def make_phantom(folder: Path) -> Path:
    """`folder` with the embedded synthetic data set, written unless it is there; an interrupted try leaves nothing."""
    if folder.is_dir():
        return folder
    # Exported bundles of other data sets come without this code, and without its manifest.
    from ultrarefiner_monai.data.phantom import generate_phantom

    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        generate_phantom(unfinished)
        if not folder.is_dir():  # another process may have been quicker
            unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def find_images(source: str) -> list[Path]:
    """The picture file `source`, or all pictures of the folder `source`, sorted by name, each of them readable.

    Masks beside their images are left out, and pictures that are turned are counted; a warning tells.

    Raises:
        DataError: there is no picture, one cannot be read, or two would write the same mask.
    """
    path = Path(source)
    listed = [path] if path.is_file() else [p for p in sorted(path.glob("*")) if not p.name.startswith(".")]
    pictures = [picture for picture in listed if picture.suffix.lower() in IMAGE_SUFFIXES]
    masks = set() if path.is_file() else masks_among(pictures, path, lambda name: Path(name).stem)
    found = [picture for picture in pictures if picture not in masks]
    if masks:
        logger.warning("left out: %d masks beside their images in %s", len(masks), source)
    if not found:
        raise DataError(f"{source}: no picture there; expected a file or a folder with {', '.join(IMAGE_SUFFIXES)}")
    stems = [picture.stem for picture in found]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise DataError(
            f"{source}: several pictures named {', '.join(doubled)}, whose masks would overwrite each other"
        )
    turned = [picture.name for picture in found if _orientation(picture) != 1]
    if turned:
        logger.warning("%s, %d pictures: %s", TURNED, len(turned), shown(turned, SHOWN))
    return found


def _orientation(picture: Path) -> int:
    """The orientation tag of a picture that can be read; DataError for any other."""
    with open_image(picture) as image:
        to_grey(image)
        return image.info["orientation"]
