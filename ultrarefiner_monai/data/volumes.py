"""Volumes in NIfTI files, and their slices as pictures.

A volume is seen as nibabel's `as_closest_canonical` turns it: x to the right, y to the front, z up (RAS+), by flips and
swaps of axes alone, which `as_stored` undoes. Slice k is the plane k along z: (H, W) with y down the columns and x along the
rows. Grey values are clipped to a range that is named, such as a window of a CT in HU, or else to the 0.5 and 99.5 percentile of
the volume's own voxels, and scaled to [0, 1] (nnU-Net's percentiles, Isensee et al. 2021, there of the foreground, which a
prediction does not know).
"""

import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ultrarefiner_monai.data.decoders import MAX_SIDE, VARIABLE, decoding, max_pixels
from ultrarefiner_monai.errors import DataError, shown
from ultrarefiner_monai.files import regular

if TYPE_CHECKING:
    from nibabel import Nifti1Image

NIFTIS = (".nii.gz", ".nii")
AGAIN = "copy it again from its source"
MOST_SLICES = 32  # pictures of the largest size that a volume may have the voxels of: 2**29, or 1 GB of CT
PERCENTILES = (0.5, 99.5)
Clip = tuple[float, float]  # grey values that become 0 and 1
SAME_PLACE = 1e-3  # mm by which the affines of image and labels may differ
KEPT = 2  # volumes open at once; the largest CT takes 1 GB as float32

_opening = threading.Lock()


class Grid(NamedTuple):
    """The shape and the affine (4, 4), in mm, of a volume's file."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def size(self) -> tuple[int, int, int]:
        """(W, H, D) in RAS+ order."""
        width, height, depth = (self.shape[axis] for axis in self._axes)
        return width, height, depth

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel (z, y, x) in mm."""
        from nibabel.affines import voxel_sizes

        x, y, z = (float(voxel_sizes(self.affine)[axis]) for axis in self._axes)
        return z, y, x

    @property
    def _axes(self) -> list[int]:
        """The file's axes that are nearest to x, y and z."""
        from nibabel.orientations import io_orientation

        return io_orientation(self.affine)[:, 0].argsort().tolist()


class Volume(NamedTuple):
    """Voxels in RAS+ order, (W, H, D), and the grid of their file."""

    voxels: np.ndarray
    grid: Grid


def is_volume(path: Path) -> bool:
    """Whether a NIfTI file has more than one slice by its header; DataError where that cannot be read."""
    with decoding(path, "NIfTI", AGAIN):
        shape = _header_of(path).shape
    return len(shape) > 2 and max(shape[2:]) > 1


def read_grid(path: Path) -> Grid:
    """The grid of a volume, whose voxels are not read.

    Raises:
        DataError: as of `read_volume`, for what its header says.
    """
    with decoding(path, "a volume", AGAIN):
        return _grid_of(_checked(path))


def read_volume(path: Path) -> Volume:
    """A volume with its voxels as float32.

    Raises:
        DataError: it cannot be read, is not 3D, is too large, or has values that are not finite.
    """
    with decoding(path, "a volume", AGAIN):
        image = _checked(path)
        voxels = _turned(image).astype(np.float32)
        if unknown := voxels.size - int(np.isfinite(voxels).sum()):
            raise DataError(f"{unknown} voxels are NaN or infinite, expected finite values; correct the file")
        return Volume(voxels, _grid_of(image))


def read_labels(path: Path, table: Mapping[str, str] | None = None) -> Volume:
    """A volume of labels as uint8.

    Args:
        path: the file.
        table: name of each label by its number, as text; None: any.

    Raises:
        DataError: it cannot be read, is not 3D, is too large, or has other values than the table's whole numbers.
    """
    with decoding(path, "a volume of labels", AGAIN):
        image = _checked(path)
        stored = _turned(image)
        values = np.unique(stored)
        if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
            raise DataError(
                f"labels {shown(values[values != np.rint(values)], 3)}: expected whole numbers; draw it again"
            )
        known = set(range(256)) if table is None else set(map(int, table))
        if other := sorted({int(value) for value in values} - known):
            raise DataError(f"labels {shown(other, 3)}: expected those of the table, 0 to {max(known)}; correct either")
        return Volume(stored.astype(np.uint8), _grid_of(image))


def check_same_grid(image: Grid, labels: Grid) -> None:
    """DataError where an image and its labels differ in shape, or in their place by more than 0.001 mm."""
    if image.shape != labels.shape:
        raise DataError(f"image is {image.shape}, labels are {labels.shape}: expected one shape; resample the labels")
    if (offset := float(np.abs(image.affine - labels.affine).max())) > SAME_PLACE:
        raise DataError(
            f"affines of image and labels differ by {offset:.4g}, expected at most {SAME_PLACE}; resample the labels"
        )


def as_stored(voxels: np.ndarray, grid: Grid) -> "Nifti1Image":
    """Voxels (W, H, D) in RAS+ order as an image on the grid of the file that they belong to."""
    from nibabel import Nifti1Image
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    back = ornt_transform(axcodes2ornt("RAS"), io_orientation(grid.affine))
    stored = apply_orientation(voxels, back)
    if stored.shape != grid.shape:
        raise ValueError(f"expected voxels of a volume of {grid.size}, found {voxels.shape}")
    image = Nifti1Image(np.ascontiguousarray(stored), grid.affine)
    image.header.set_xyzt_units("mm")
    return image


def scaled(voxels: np.ndarray, clip: Clip | None = None) -> np.ndarray:
    """Grey values in [0, 1] of a volume, float32, clipped to its percentiles or to `clip`; 0 everywhere where those are equal."""
    low, high = np.percentile(voxels, PERCENTILES) if clip is None else clip
    if high <= low:
        return np.zeros_like(voxels, dtype=np.float32)
    return ((voxels.clip(low, high) - low) / (high - low)).astype(np.float32)


def grey_slice(path: str | Path, position: int, clip: Clip | None = None) -> np.ndarray:
    """Grey values (H, W) float32 in [0, 1] of one slice, see `scaled`; its volume is kept open for the next one."""
    return _plane(_open("grey", Path(path), clip), position)


def label_slice(path: str | Path, position: int) -> np.ndarray:
    """Labels (H, W) uint8 of one slice; its volume is kept open for the next one."""
    return _plane(_open("labels", Path(path)), position)


def _plane(voxels: np.ndarray, position: int) -> np.ndarray:
    return np.ascontiguousarray(voxels[:, :, position].T)


def _open(kind: str, path: Path, clip: Clip | None = None) -> np.ndarray:
    with _opening:  # two threads would read one volume twice
        return _opened(kind, path, clip)


@lru_cache(maxsize=2 * KEPT)
def _opened(kind: str, path: Path, clip: Clip | None) -> np.ndarray:
    return read_labels(path).voxels if kind == "labels" else scaled(read_volume(path).voxels, clip)


def _header_of(path: Path) -> "Nifti1Image":
    """A NIfTI file of which only the header has been read."""
    from nibabel import Nifti1Image, imageglobals

    imageglobals.logger.setLevel("CRITICAL")  # what nibabel logs on its way to an error is in the error
    return Nifti1Image.from_filename(regular(path))


def _checked(path: Path) -> "Nifti1Image":
    image = _header_of(path)
    if len(image.shape) != 3 or min(image.shape) < 1:
        raise DataError(
            f"expected a volume (x, y, z) of one slice at least, found {image.shape}; save each part by itself"
        )
    limit = MOST_SLICES * max_pixels()
    if (voxels := int(np.prod(image.shape, dtype=object))) > limit or max(image.shape) > MAX_SIDE:
        raise DataError(
            f"{image.shape} has {voxels} voxels, more than the limit of {limit}; set {VARIABLE} higher, or cut it"
        )
    if image.get_data_dtype().kind not in "uif":
        raise DataError(f"expected grey values or labels, found {image.get_data_dtype()}; save it as numbers")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-12:
        raise DataError("its affine gives voxels no size; correct its header")
    return image


def _grid_of(image: "Nifti1Image") -> Grid:
    width, height, depth = image.shape
    return Grid((width, height, depth), image.affine)


def _turned(image: "Nifti1Image") -> np.ndarray:
    """The values of a volume in RAS+ order."""
    from nibabel import as_closest_canonical

    return np.asarray(as_closest_canonical(image).dataobj)
