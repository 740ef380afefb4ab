"""NIfTI files of one plane."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultrarefiner_monai.data.decoders import decoding
from ultrarefiner_monai.data.decoding import white_of
from ultrarefiner_monai.data.images import AGAIN
from ultrarefiner_monai.data.nifti import read_plane
from ultrarefiner_monai.deploy.images.image_file import ImageFile
from ultrarefiner_monai.errors import DataError

if TYPE_CHECKING:
    from nibabel import Nifti1Image


MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}  # nibabel's names of NIfTI's units


class NiftiFile(ImageFile):
    """A plane in NIfTI: (W, H) or (W, H, 1), the first axis along a row.

    The array is taken as stored, whatever its orientation matrix says. Values are divided by what `white_of` says, as in
    other files.
    """

    def __init__(self, path: Path) -> None:
        image = read_nifti(path)
        self.header, self.affine, self.shape = image.header, image.affine, image.shape
        with decoding(path, "NIfTI", AGAIN):
            unit = MILLIMETRES.get(image.header.get_xyzt_units()[0])  # spacing is known where the header states a unit
            along_row, down_column = (float(zoom) for zoom in image.header.get_zooms()[:2])
        super().__init__(path, spacing=None if unit is None else (down_column * unit, along_row * unit))

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`."""
        image = read_nifti(self.path)
        with decoding(self.path, "NIfTI", AGAIN):
            values = np.asarray(image.dataobj).reshape(self.shape[:2]).T
            white = white_of(values)
            grey = np.ascontiguousarray(values, dtype=np.float32) / np.float32(white)
        if values.dtype != np.uint8:
            self.note_white(white)
        yield grey


def read_nifti(path: Path) -> "Nifti1Image":
    """The grey plane in a NIfTI file, with a place in space.

    Raises:
        DataError: it cannot be read, or is no such plane.
    """
    with decoding(path, "NIfTI", AGAIN):
        image = read_plane(path)
        if image.get_data_dtype().kind not in "uif":
            raise DataError(f"expected a grey plane, found {image.get_data_dtype()}; save it as grey values")
        if not np.isfinite(image.affine).all():
            raise ValueError("its orientation matrix is undefined")
        np.asarray(image.dataobj)
    return image
