"""Volumes in a MONAI Label server: NIfTI files, whose masks and labels are NIfTI or NRRD.

NIfTI counts x to the right and y to the front; 3D Slicer writes NRRD that counts both the other way.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.volumes import Grid, as_stored, check_same_grid, read_grid, read_labels
from ultrarefiner_monai.deploy.images.volume import VolumeFile
from ultrarefiner_monai.deploy.monailabel.clicks import KEYS as CLICKS
from ultrarefiner_monai.deploy.monailabel.labels import NIFTIS, NRRDS, read_nrrd, suffix_of
from ultrarefiner_monai.deploy.monailabel.parts import ensemble_of, options_of, uncertainty
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.metrics.classes import class_mask
from ultrarefiner_monai.systems import find_stage

KIND = ".nii.gz"  # of masks of volumes, unless a client wants another
KINDS = (*NIFTIS, *NRRDS)
SPACES = {"left-posterior-superior": np.diag([-1.0, -1.0, 1.0]), "right-anterior-superior": np.eye(3)}  # to RAS+
WRITTEN = "left-posterior-superior"  # by 3D Slicer and ITK


def holds_volume(image: str | Path) -> bool:
    """Whether an image of the server is a volume, by its suffix."""
    return suffix_of(str(image)) in NIFTIS


def check_volume_request(request: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Refuse what a request for the mask of a volume cannot have.

    Args:
        request: with keys and values that a request may have at all.
        card: of the model.

    Raises:
        DataError: a kind of file that holds no volume, clicks, a mask to begin with, or options that are for pictures.
    """
    kind = request.get("result_extension", KIND)
    if kind not in KINDS:
        raise DataError(f"result_extension: {kind} holds no volume; expected one of {', '.join(KINDS)}")
    for name in (*(key.name for key in CLICKS), "label"):
        if request.get(name):
            raise DataError(f"{name}: volumes are segmented without; leave it out, or send one slice as a picture")
    defaults = options_of(card)
    last, *_ = defaults.pop("show", [""])
    shown = request.get("show", last)
    if shown not in (last, *_classes(card)):
        raise DataError(f"show: of a volume {last} is shown, or a class; found {shown}")
    for name, default in defaults.items():
        if name != "threshold" and request.get(name, default) != default:
            raise DataError(f"{name}: of a volume it is what the model was trained with, {default}; leave it out")


def segment_volume(
    bundle: str | Path, request: Mapping[str, Any], card: Mapping[str, Any], device: str | None = None
) -> tuple[np.ndarray, Grid, dict[str, Any]]:
    """The mask of a volume, the grid of its file, and what the client is told.

    Args:
        bundle: the served folder.
        request: `image`, a path, and `threshold` and `show`, as `check_volume_request` lets them pass.
        card: of the model.
        device: None is the first CUDA device, or the CPU.

    Returns:
        Labels (W, H, D) uint8 in RAS+ order: 1 where there is a lesion, or where the class `show` is likeliest; of a model that
        tells organs apart their numbers, unless one is shown. `lesion_voxels` are all that are not 0.

    Raises:
        DataError: the volume cannot be read or predicted.
    """
    names, threshold = _classes(card), float(request.get("threshold", THRESHOLD))
    shown = names.index(request["show"]) + 1 if request.get("show") in names else 0
    planes, entropies = [], []
    ensemble = ensemble_of(bundle, device)
    source = VolumeFile(Path(request["image"]), ensemble.clip)
    for found in ensemble.predict_volume(source.frames(), source.spacing):
        plane = found.probability >= threshold
        if shown or ensemble.organs:
            told = class_mask(found.probability, np.stack(list(found.classes.values())), threshold)
            plane = told == shown if shown else told
        planes.append(plane.T.astype(np.uint8))
        entropies.append(uncertainty(found.probability))
    labels = np.stack(planes, axis=2)
    answer = {"lesion_voxels": int(np.count_nonzero(labels)), "uncertainty": float(np.mean(entropies))}
    return labels, source.grid, answer


def volume_uncertainty(bundle: str | Path, image: str | Path) -> float:
    """Mean of the slices' `uncertainty`; DataError where the volume cannot be predicted."""
    ensemble = ensemble_of(bundle)
    source = VolumeFile(Path(image), ensemble.clip)
    found = ensemble.predict_volume(source.frames(), source.spacing)
    return float(np.mean([uncertainty(one.probability) for one in found]))


def write_volume(labels: np.ndarray, grid: Grid, path: str | Path, compress: bool = True) -> None:
    """Write labels (W, H, D) in RAS+ order on the grid of the file that they belong to, as the suffix of `path` says.

    Args:
        labels: of whole numbers.
        grid: of the file.
        path: `.nii.gz`, `.nii` or `.nrrd`.
        compress: of NRRD; NIfTI's suffix says it.
    """
    image = as_stored(labels, grid)
    if suffix_of(str(path)) in NIFTIS:
        from nibabel import save

        save(image, path)
        return
    import nrrd

    turn, affine = SPACES[WRITTEN], np.asarray(image.affine)
    header = {
        "space": WRITTEN,
        "space directions": (turn @ affine[:3, :3]).T,
        "space origin": turn @ affine[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "gzip" if compress else "raw",
    }
    nrrd.write(str(path), np.asarray(image.dataobj), header, index_order="F")


def read_volume_label(path: str | Path, grid: Grid) -> np.ndarray:
    """The labels (W, H, D) uint8 in RAS+ order that a client sends of a volume with this grid; they keep their numbers.

    Raises:
        DataError: it cannot be read, is no volume of whole numbers from 0 to 255, or lies elsewhere than its image.
    """
    path = Path(path)
    suffix = suffix_of(path.name)
    if suffix not in KINDS:
        raise DataError(f"{path}: a label of a volume is {', '.join(KINDS)}; save it as one of these")
    if suffix in NRRDS:
        labels, found = _read_volume_nrrd(path, int(np.prod(grid.shape)))
        _check(path, grid, found)
        return labels
    _check(path, grid, read_grid(path))  # before its voxels are read, of which it may claim any number
    return read_labels(path).voxels


def _check(path: Path, grid: Grid, found: Grid) -> None:
    try:
        check_same_grid(grid, found)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _read_volume_nrrd(path: Path, most: int) -> tuple[np.ndarray, Grid]:
    from nibabel import Nifti1Image, as_closest_canonical

    values, header = read_nrrd(path, most)
    directions, origin, space = (header.get(f"space{name}") for name in (" directions", " origin", ""))
    if values.ndim != 3 or directions is None or origin is None or space not in SPACES:
        raise DataError(
            f"{path}: expected one layer (x, y, z) with its place in {' or '.join(SPACES)}, found {values.shape} in {space}; "
            "save it as a label map, without segments that overlap"
        )
    if values.dtype.kind not in "ui" or not 0 <= values.min() <= values.max() <= np.iinfo(np.uint8).max:
        raise DataError(f"{path}: expected whole numbers from 0 to 255, found {values.dtype}; number the segments anew")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = SPACES[space] @ np.asarray(directions).T, SPACES[space] @ np.asarray(origin)
    width, height, depth = values.shape
    turned = as_closest_canonical(Nifti1Image(values.astype(np.uint8), affine))
    return np.asarray(turned.dataobj), Grid((width, height, depth), affine)


def _classes(card: Mapping[str, Any]) -> tuple[str, ...]:
    return find_stage(card["stage"])[1].classes_of(card["network"])
