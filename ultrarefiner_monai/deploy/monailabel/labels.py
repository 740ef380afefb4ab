"""Labels as clients save them, read as masks of their image: PNG and its like, NIfTI, and NRRD (3D Slicer).

NIfTI and NRRD store x first, often with a third axis of one plane, and say where their axes point. An image has no such
orientation, so programs that draw on one give it theirs: x and y both along their file's directions, or both against them
(ITK and 3D Slicer count to the left and to the back, which NIfTI calls negative; nibabel and MONAI to the right and front).
Both mean the array as stored. A label with other axes has been turned or mirrored and is refused.
"""

import math
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from ultrarefiner_monai.data.decoders import BYTES_PER_PIXEL, check_pixels, decoding, max_pixels
from ultrarefiner_monai.data.images import Size, read_grey, read_mask
from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES
from ultrarefiner_monai.deploy.images.nifti import read_nifti
from ultrarefiner_monai.errors import DataError

NIFTIS, NRRDS = (".nii.gz", ".nii"), (".nrrd",)
LABEL_SUFFIXES = (*IMAGE_SUFFIXES, *NIFTIS, *NRRDS)
LEFT_HANDED = ("left-anterior", "LA")  # NRRD's one space in which x counts the other way than in the two others
GZIP = ("gzip", "gz")
DETACHED = {"data file", "datafile"}  # NRRD's fields that name another file with the pixels
SLANT = 0.01  # of an axis' direction: what rounding leaves


def suffix_of(name: str) -> str:
    """The suffix of a file that can be a label, in lower case; empty for others."""
    return next((suffix for suffix in LABEL_SUFFIXES if name.lower().endswith(suffix)), "")


def size_of(image: str | Path) -> Size:
    """(width, height) of an image, as it is read for the network.

    Raises:
        DataError: it cannot be read.
    """
    height, width = read_grey(image).shape
    return width, height


def read_label(path: str | Path, size: Size) -> np.ndarray:
    """The mask (H, W) bool in a label file of an image of `size` (W, H).

    NIfTI and NRRD hold numbered segments: what is not 0 is lesion. Other kinds are read by `read_mask`.

    Raises:
        DataError: it cannot be read, has another size, or is turned or mirrored.
    """
    path = Path(path)
    suffix = suffix_of(path.name)
    if suffix in NIFTIS:
        image = read_nifti(path)
        stated = any(int(image.header[code]) for code in ("qform_code", "sform_code"))
        mask = _plane(path, np.asarray(image.dataobj), image.affine[:3, :2].T if stated else None)
    elif suffix in NRRDS:
        mask = _plane(path, *_read_nrrd(path))
    elif suffix:
        mask = read_mask(path)
    else:
        raise DataError(f"{path}: no kind of label; expected {', '.join(LABEL_SUFFIXES)}")
    if mask.shape[::-1] != size:
        found, expected = ("{}x{}".format(*pair) for pair in (mask.shape[::-1], size))
        raise DataError(f"{path}: a label of {found}, its image has {expected}; save it at the image's own size")
    return mask


def _plane(path: Path, values: np.ndarray, directions: np.ndarray | None) -> np.ndarray:
    """The mask (H, W) of values (W, H) or (W, H, 1), whose first two axes have these directions in space."""
    if values.ndim < 2 or values.shape[2:] not in ((), (1,)):
        raise DataError(f"{path}: expected a plane (W, H) or (W, H, 1), found {values.shape}; save one slice")
    if directions is not None:
        length = np.linalg.norm(directions, axis=1, keepdims=True)
        unit = directions / np.where(length > 0, length, 1)
        along = np.eye(*unit.shape)
        if min(np.abs(unit - along).max(), np.abs(unit + along).max()) > SLANT:
            raise DataError(
                f"{path}: its axes are turned or mirrored against its image's ({unit.round(2).tolist()}); "
                "save it in the geometry of the image"
            )
    return np.ascontiguousarray(values.reshape(values.shape[:2]).T != 0)


def _read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Values, x first, and the directions of the first two axes in space (None if unknown); layers are united."""
    with decoding(path, "NRRD", "save it again"):
        values, header = _nrrd_content(path)
    directions = header.get("space directions")
    if directions is None:
        return values, None
    layers = np.isnan(directions).any(axis=1)  # overlapping segments of 3D Slicer lie on a first axis without direction
    directions = directions[~layers][:2]
    if str(header.get("space", "")).startswith(LEFT_HANDED):
        directions[:, 0] *= -1
    return np.asarray(values.any(axis=tuple(np.flatnonzero(layers)))) if layers.any() else values, directions


def _nrrd_content(path: Path) -> tuple[np.ndarray, Any]:
    try:
        import nrrd
    except ImportError as error:
        raise DataError(f"NRRD needs pynrrd ({error}); run 'pip install pynrrd'") from None
    with path.open("rb") as file:
        header = nrrd.read_header(file)
        if header.keys() & DETACHED:
            raise ValueError("its pixels are in another file")
        sizes = [int(size) for size in header["sizes"]]
        check_pixels(sizes[0], math.prod(sizes[1:]))
        begin = file.tell()
        _check_unpacked(str(header["encoding"]), file)
        file.seek(begin)
        return nrrd.read_data(header, file, index_order="F"), header


def _check_unpacked(encoding: str, file: IO[bytes]) -> None:
    """Refuse what unpacks to more than any label may take, and what cannot be unpacked in steps."""
    if encoding.lower() in GZIP:
        limit = BYTES_PER_PIXEL * max_pixels()
        if zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(file.read(), limit + 1)[limit:]:
            raise ValueError(f"unpacks to more than {limit} bytes")
    elif encoding.lower() != "raw":
        raise ValueError(f"expected its pixels raw or as gzip, found {encoding}")
