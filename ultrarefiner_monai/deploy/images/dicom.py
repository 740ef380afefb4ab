"""Ultrasound in DICOM files: grey values of each frame."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ultrarefiner_monai.data.decoding import BITS, MAX_16_BIT, white_of
from ultrarefiner_monai.data.images import to_grey
from ultrarefiner_monai.deploy.images.dicom_header import (
    check_modality,
    header_notes,
    pixel_spacing,
    read_header,
    read_whole,
)
from ultrarefiner_monai.deploy.images.image_file import COLOURED, ImageFile, is_coloured
from ultrarefiner_monai.errors import DataError, one_line

if TYPE_CHECKING:
    from pydicom import Dataset

# Pillow, pydicom's decoder of JPEG where no other is installed, reads no more bits of JPEG Extended.
PILLOW_BITS = 8


class DicomFile(ImageFile):
    """One image or a multi-frame one, decoded by pydicom: grey, inverted grey, RGB, YBR or palette colours.

    Colours become luma as in other files. Grey values are rescaled and windowed where the file says how (look-up tables of
    grey values are not applied). Without a window, black and white are the ends of what its BitsStored hold; where those
    are all 16 bits of a pixel, which says nothing, white is what `white_of` says of all frames.

    Args:
        path: the file; one without preamble or file meta information is read as well.
        any_modality: read files of other modalities than ultrasound, too.

    Raises:
        DataError: the file holds no image, no ultrasound, or pixels that nothing installed decodes.
    """

    def __init__(self, path: Path, any_modality: bool = False) -> None:
        import_dicom("pydicom")
        with _readable(path):
            header, forced = read_header(path)
            check_modality(path, header, any_modality)
            if "Rows" not in header:
                raise ValueError("no image in it")
            _check_decoder(path, header)
            count = int(header.get("NumberOfFrames") or 1)
            if count < 1:
                raise ValueError(f"NumberOfFrames is {count}")
            super().__init__(path, count, pixel_spacing(header))
            self.header, self._is_forced = header, bool(forced)
            self.notes += forced + header_notes(header)

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`."""
        with _readable(self.path):
            span = self._span()
        for pixels in self._stored():
            with _readable(self.path):
                grey = self._grey(pixels, *span)
            yield grey

    def _stored(self) -> Iterator[np.ndarray]:
        """Stored values of each frame, (H, W) or colours (H, W, 3)."""
        from pydicom.pixels import iter_pixels

        with _readable(self.path):
            # pydicom finds no single frames in a deflated file, and no pixels in one whose own header is incomplete
            whole = self._is_forced or self.header.file_meta.TransferSyntaxUID.is_deflated
            pixels = iter_pixels(read_whole(self.path, self.header) if whole else self.path)
        for _ in range(self.count):
            with _readable(self.path):
                frame = next(pixels)
            yield frame

    def _span(self) -> tuple[int, int]:
        """The stored values that are black and white in a file without a window; of colours, what their bits hold."""
        stored, allocated = int(self.header.BitsStored), int(self.header.BitsAllocated)
        low = -(1 << stored - 1) if self.header.PixelRepresentation else 0
        declared = low, low + (1 << stored) - 1
        grey = self.header.PhotometricInterpretation.startswith("MONOCHROME")
        if not grey or stored <= BITS[0] or stored < allocated or _window(self.header):
            return declared
        ends = [(int(frame.min()), int(frame.max())) for frame in self._stored()]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        if low < 0 or high > MAX_16_BIT:
            return declared
        white = white_of(np.array([low, high]))
        self.note_white(white)
        return 0, white

    def _grey(self, pixels: np.ndarray, black: int, white: int) -> np.ndarray:
        from pydicom.pixels import apply_color_lut, apply_rescale, apply_windowing

        header = self.header
        if header.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, header)
            pixels = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
        if pixels.ndim == 3:
            pixels = pixels if pixels.dtype == np.uint8 else np.rint(pixels / white * 255).astype(np.uint8)
            if is_coloured(pixels):
                self.note(COLOURED)
            return to_grey(Image.fromarray(pixels))
        low, high = float(black), float(white)
        if _window(header):  # spread over what the bits can mean once they are rescaled
            slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
            low, high = low * slope + intercept, high * slope + intercept
            pixels = apply_windowing(apply_rescale(pixels, header), header)
        if header.PhotometricInterpretation == "MONOCHROME1":
            low, high = high, low
        return ((pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)).clip(0, 1)


def _window(header: "Dataset") -> bool:
    """Whether a header has a window; anonymised ones keep the elements and empty them."""
    return header.get("WindowCenter") is not None and header.get("WindowWidth") is not None


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
