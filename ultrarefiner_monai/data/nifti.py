"""Planes in NIfTI files, read no further than their header says.

Both functions are to be used inside of `decoders.decoding`, since nibabel raises errors of many classes.
"""

import gzip
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ultrarefiner_monai.data.decoders import check_pixels
from ultrarefiner_monai.errors import DataError

if TYPE_CHECKING:
    from nibabel import Nifti1Header, Nifti1Image

HEADER = 348  # bytes
SURPLUS = 2**20  # bytes that the header's extensions, and what lies behind the pixels, may take


def read_header(path: Path) -> "Nifti1Header":
    """The header of a plane, `.nii` or `.nii.gz`, after the checks of `read_plane`; its pixels are not read."""
    with path.open("rb") as raw:
        return _checked(_unpacked(path, raw).read(HEADER))


def read_plane(path: Path) -> "Nifti1Image":
    """A plane with its pixels and all that is behind them, since gzip's checksum stands at the end.

    Raises:
        DataError: no plane (W, H) or (W, H, 1), or more pixels than are allowed.
        ValueError: fewer or many more bytes than its header says.
    """
    from nibabel import Nifti1Image

    with path.open("rb") as raw:
        stream = _unpacked(path, raw)
        content = stream.read(HEADER)
        header = _checked(content)
        width, height = header.get_data_shape()[:2]
        expected = header.get_data_offset() + header.get_data_dtype().itemsize * width * height
        content += stream.read(expected - len(content))
        if len(content) < expected:
            raise ValueError(f"expected {expected} bytes by its header, found {len(content)}")
        if len(stream.read(SURPLUS)) == SURPLUS:
            raise ValueError(f"expected {expected} bytes by its header, found {SURPLUS} more and further ones")
    return Nifti1Image.from_bytes(content)


def _unpacked(path: Path, raw: IO[bytes]) -> IO[bytes] | gzip.GzipFile:
    return gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw


def _checked(content: bytes) -> "Nifti1Header":
    """The header in the first bytes of a file."""
    from nibabel import Nifti1Header, imageglobals

    imageglobals.logger.setLevel("CRITICAL")  # what nibabel logs on its way to an error is in the error
    header = Nifti1Header.from_fileobj(BytesIO(content))
    shape = header.get_data_shape()
    if shape not in {shape[:2], (*shape[:2], 1)} or len(shape) < 2:
        raise DataError(f"expected a plane (W, H) or (W, H, 1), found {shape}; save its slices one by one")
    check_pixels(*shape[:2])
    if not HEADER <= header.get_data_offset() <= HEADER + SURPLUS:
        raise ValueError(f"its pixels begin at byte {header.get_data_offset()}")
    return header
