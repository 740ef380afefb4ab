"""Ultrasound in DICOM files: grey values of each frame, and the size of a pixel."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ultrarefiner_monai.data.images import to_grey
from ultrarefiner_monai.deploy.images.image_file import ImageFile, Spacing
from ultrarefiner_monai.errors import DataError, one_line

if TYPE_CHECKING:
    from pydicom import Dataset

# DICOM PS3.3, section C.8.5.5, Ultrasound Region Calibration.
SPATIAL_2D = 1  # Region Spatial Format: a plane of tissue, as opposed to a time axis, a spectrum or a graphic
CENTIMETRES = 3  # Physical Units X and Y Direction
MM_PER_CM = 10
# Pillow, pydicom's decoder of JPEG where no other is installed, reads no more bits of JPEG Extended.
PILLOW_BITS = 8


class DicomFile(ImageFile):
    """One image or a multi-frame one, decoded by pydicom: grey, inverted grey, RGB, YBR or palette colours.

    Colours become luma as in other files. Grey values are rescaled and windowed where the file says how (look-up
    tables of grey values are not applied) and divided by the largest value that the bits can hold.
    """

    def __init__(self, path: Path) -> None:
        pydicom = import_dicom("pydicom")
        with _readable(path):
            self.header: Dataset = pydicom.dcmread(path, stop_before_pixels=True)
            if "Rows" not in self.header:
                raise ValueError(f"no image in {self.header.SOPClassUID.name}")
            _check_decoder(path, self.header)
            super().__init__(path, int(self.header.get("NumberOfFrames") or 1), pixel_spacing(self.header))

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`."""
        from pydicom import dcmread
        from pydicom.pixels import iter_pixels

        whole = self.header.file_meta.TransferSyntaxUID.is_deflated  # in such a file pydicom finds no single frames
        with _readable(self.path):
            pixels = iter_pixels(dcmread(self.path) if whole else self.path)
        for _ in range(self.count):
            with _readable(self.path):
                grey = self._grey(next(pixels))
            yield grey

    def _grey(self, pixels: np.ndarray) -> np.ndarray:
        from pydicom.pixels import apply_color_lut

        if self.header.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, self.header)
            pixels = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
        return to_grey(Image.fromarray(pixels)) if pixels.ndim == 3 else self._windowed(pixels)

    def _windowed(self, pixels: np.ndarray) -> np.ndarray:
        """Grey values of stored ones (H, W)."""
        from pydicom.pixels import apply_rescale, apply_windowing

        black, white = self._range
        values = apply_windowing(apply_rescale(pixels, self.header), self.header).astype(np.float32)
        if self.header.PhotometricInterpretation == "MONOCHROME1":
            black, white = white, black
        return ((values - np.float32(black)) / np.float32(white - black)).clip(0, 1)

    @property
    def _range(self) -> tuple[float, float]:
        """Least and largest value that the stored bits can mean; also what a window is spread over."""
        levels = 1 << int(self.header.BitsStored)
        low = -(levels // 2) if self.header.PixelRepresentation else 0
        slope, intercept = (
            float(self.header.get(f"Rescale{name}", default)) for name, default in (("Slope", 1), ("Intercept", 0))
        )
        return low * slope + intercept, (low + levels - 1) * slope + intercept


def _check_decoder(path: Path, header: "Dataset") -> None:
    """Raise DataError where nothing that is installed decodes the pixels."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    syntax = header.file_meta.TransferSyntaxUID
    stored = f"{path}: stored as {syntax.name} ({syntax})"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(f"{stored}, which pydicom does not decode; save it uncompressed") from None
    plugins = set(decoder.available_plugins)
    if syntax == JPEGExtended12Bit and header.BitsStored > PILLOW_BITS:
        plugins -= {"pillow"}
    if syntax.is_encapsulated and not plugins:
        packages = sorted(set(re.findall(r"pylibjpeg[a-z-]*", " ".join(decoder.missing_dependencies))))
        raise DataError(f"{stored}, whose decoder is not installed; run 'pip install {' '.join(packages)}'")


def pixel_spacing(header: "Dataset") -> Spacing | None:
    """Size of a pixel: of the calibrated regions where all of them agree, else PixelSpacing; None where neither tells."""
    regions = {
        (abs(region.PhysicalDeltaY) * MM_PER_CM, abs(region.PhysicalDeltaX) * MM_PER_CM)
        for region in header.get("SequenceOfUltrasoundRegions") or []
        if region.get("RegionSpatialFormat") == SPATIAL_2D
        and (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")) == (CENTIMETRES, CENTIMETRES)
    }
    if regions:
        return _positive(*regions.pop()) if len(regions) == 1 else None
    spacing = header.get("PixelSpacing")
    return _positive(*map(float, spacing)) if spacing else None


def _positive(down_column: float, along_row: float) -> Spacing | None:
    return (down_column, along_row) if down_column > 0 and along_row > 0 else None


def import_dicom(name: str) -> ModuleType:
    """Import pydicom or highdicom.

    Raises:
        DataError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise DataError(f"DICOM needs {name} ({error}); run 'pip install ultrarefiner-monai[dicom]'") from None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tell whatever is wrong with a file in one line."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a damaged file may fail in any way at all
        raise DataError(f"{path}: cannot be read as a DICOM image ({one_line(error)}); copy it again") from None
