"""Probability maps on disk: one float32 NIfTI an image, at the image's own size."""

import gzip
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ultrarefiner_monai.data.decoders import decoding
from ultrarefiner_monai.data.nifti import read_header, read_plane
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import write_atomically

AGAIN = "predict this image again"


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
    with decoding(path, "a probability map", AGAIN):
        image = read_plane(Path(path))
        _check_flat(image.shape)
        return np.ascontiguousarray(np.asarray(image.dataobj, dtype=np.float32).T)


def file_fault(path: Path, expected: tuple[int, int], stated: tuple[int, int]) -> str | None:
    """Fault of a map's file, from its header alone."""
    if not path.is_file():
        return "missing"
    try:
        with decoding(path, "a probability map", AGAIN):
            _check_flat(stored := read_header(path).get_data_shape())
    except DataError:
        return "unreadable"
    return None if expected == stated == stored else "wrong-sized"


def _check_flat(shape: tuple[int, ...]) -> None:
    """Maps are written as (W, H)."""
    if len(shape) != 2:
        raise ValueError(f"expected a plane (W, H), found {shape}")
