"""Labels as clients save them, read as masks of their image: PNG and its like, NIfTI, and NRRD (3D Slicer).

NIfTI and NRRD store x first, often with a third axis of one plane, and say where their axes point. An image has no such
orientation, so programs that draw on one give it theirs: x and y both along their file's directions, or both against them
(ITK and 3D Slicer count to the left and to the back, which NIfTI calls negative; nibabel and MONAI to the right and front).
Both mean the array as stored. A label with other axes has been turned or mirrored and is refused.
"""

import bz2
import io
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ultrarefiner_monai.data.images import Size, read_grey, read_mask
from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES
from ultrarefiner_monai.deploy.images.nifti import read_nifti
from ultrarefiner_monai.errors import DataError, one_line

NIFTIS, NRRDS = (".nii.gz", ".nii"), (".nrrd",)
LABEL_SUFFIXES = (*IMAGE_SUFFIXES, *NIFTIS, *NRRDS)
LEFT_HANDED = ("left-anterior", "LA")  # NRRD's one space in which x counts the other way than in the two others
DETACHED = {"data file", "datafile"}  # NRRD's fields that name another file with the pixels
SKIPS = {"line skip", "lineskip", "byte skip", "byteskip"}  # and those that want to be obeyed for as long as they say
INFLATERS: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("gzip", "gz"), lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    **dict.fromkeys(("bzip2", "bz2"), bz2.BZ2Decompressor),
}
LAYERS = 64  # of segments that overlap, in one label
WIDEST = 8  # bytes of a value
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
        mask = _plane(path, *_read_nrrd(path, size))
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


def _read_nrrd(path: Path, size: Size) -> tuple[np.ndarray, np.ndarray | None]:
    """Values, x first, and the directions of the first two axes in space (None if unknown); layers are united."""
    values, header = read_nrrd(path, math.prod(size) * LAYERS)
    directions = header.get("space directions")
    if directions is None:
        return values, None
    layers = np.isnan(directions).any(axis=1)  # overlapping segments of 3D Slicer lie on a first axis without direction
    directions = directions[~layers][:2]
    if str(header.get("space", "")).startswith(LEFT_HANDED):
        directions[:, 0] *= -1
    return np.asarray(values.any(axis=tuple(np.flatnonzero(layers)))) if layers.any() else values, directions


def read_nrrd(path: Path, most: int) -> tuple[np.ndarray, Any]:
    """Values, x first, and header of a file; DataError where it cannot be read, or has more than `most` values."""
    try:
        return _nrrd_content(path, most)
    except ImportError as error:
        raise DataError(f"NRRD needs pynrrd ({error}); run 'pip install pynrrd'") from None
    except Exception as error:  # a damaged file may fail in any way at all
        raise DataError(f"{path}: cannot be read as NRRD ({one_line(error)}); save it again") from None


def _nrrd_content(path: Path, most: int) -> tuple[np.ndarray, Any]:
    import nrrd

    with path.open("rb") as file:
        header = nrrd.read_header(file)
        if header.keys() & DETACHED:
            raise ValueError("its pixels are in another file")
        if header.keys() & SKIPS or header.get("type") == "block":
            raise ValueError("blocks of bytes and skipped ones are not read")
        count = math.prod(map(int, header["sizes"]))
        if not 0 < count <= most:
            raise ValueError(f"{count} values, its image can have {most} at most")
        if inflater := INFLATERS.get(header.get("encoding", "")):
            values = io.BytesIO(inflater().decompress(file.read(), count * WIDEST))
            return nrrd.read_data({**header, "encoding": "raw"}, values, index_order="F"), header
        return nrrd.read_data(header, file, index_order="F"), header
