"""Probability maps on disk: one float32 NIfTI an image, at the image's own size."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_atomically


def map_name(image: str) -> str:
    """File of an image's map inside a prediction folder: its path in the dataset, suffix replaced by `.nii.gz`."""
    return f"{PurePosixPath(image).with_suffix('')}.nii.gz"


def nifti_bytes(image: Any) -> bytes:
    """A NIfTI image of nibabel as the bytes of a `.nii.gz` file; the same image always gives the same bytes."""
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def write_map(path: str | Path, prob: np.ndarray) -> None:
    """Write a probability map (H, W) as float32 NIfTI, atomically; the same map always gives the same bytes.

    The array is stored as (W, H), NIfTI's x before y, which is also what MONAI's readers make of a PNG.

    Raises:
        ValueError: not (H, W), or values that are not probabilities (NaN, below 0, above 1).
    """
    import nibabel

    prob = np.asarray(prob, dtype=np.float32)
    if prob.ndim != 2:
        raise ValueError(f"{path}: a map must be (H, W), found {prob.shape}")
    if not ((prob >= 0) & (prob <= 1)).all():
        raise ValueError(f"{path}: a map must hold probabilities in [0, 1], found NaN or other values")
    image = nibabel.Nifti1Image(np.ascontiguousarray(prob.T), affine=np.eye(4))
    write_atomically(path, nifti_bytes(image))


def read_map(path: str | Path) -> np.ndarray:
    """Read a map written by `write_map`: (H, W) float32, exactly the values written.

    Raises:
        DataError: the file is missing, unreadable or not a plane.
    """
    import nibabel

    with _readable(path):
        # Decompressed as a whole, because only that checks gzip's checksum.
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(Path(path).read_bytes()))
        return np.ascontiguousarray(np.asarray(_plane(image).dataobj, dtype=np.float32).T)


def file_fault(path: Path, expected: tuple[int, int], stated: tuple[int, int]) -> str | None:
    """Fault of a map's file, from its header alone."""
    import nibabel

    if not path.is_file():
        return "missing"
    try:
        with _readable(path):
            stored = _plane(nibabel.Nifti1Image.from_filename(path)).shape
    except DataError:
        return "unreadable"
    return None if expected == stated == stored else "wrong-sized"


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Tell whatever is wrong with a map's file in one line."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise DataError(f"{path}: unreadable probability map ({error}); predict this image again") from error


def _plane(image: Any) -> Any:
    """The NIfTI image, if it is a plane (W, H)."""
    if len(image.shape) != 2:
        raise ValueError(f"expected a plane (W, H), found {image.shape}")
    return image
