"""NIfTI files of one plane."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultrarefiner_monai.data.decoding import white_of
from ultrarefiner_monai.deploy.images.image_file import ImageFile
from ultrarefiner_monai.errors import DataError, one_line

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
        unit = MILLIMETRES.get(image.header.get_xyzt_units()[0])  # spacing is known where the header states a unit
        along_row, down_column = (float(zoom) for zoom in image.header.get_zooms()[:2])
        super().__init__(path, spacing=None if unit is None else (down_column * unit, along_row * unit))

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`."""
        values = np.asarray(read_nifti(self.path).dataobj).reshape(self.shape[:2]).T
        try:
            white = white_of(values)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None
        if values.dtype != np.uint8:
            self.note_white(white)
        grey = np.ascontiguousarray(values, dtype=np.float32) / np.float32(white)
        yield grey


def read_nifti(path: Path) -> "Nifti1Image":
    """The plane in a NIfTI file, completely read, since only that finds every damage."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        content = path.read_bytes()
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content) if path.suffix.lower() == ".gz" else content)
        np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise DataError(f"{path}: cannot be read as NIfTI ({one_line(error)}); copy it again from its source") from None
    if image.shape not in {(*image.shape[:2],), (*image.shape[:2], 1)} or image.get_data_dtype().kind not in "uif":
        found = f"{image.shape} of {image.get_data_dtype()}"
        raise DataError(f"{path}: expected a grey plane (W, H) or (W, H, 1), found {found}; save its slices one by one")
    return image
