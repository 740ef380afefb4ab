"""Ultrasound in DICOM files: grey values of each frame."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ultrarefiner_monai.data.decoders import check_frames, check_pixels, decoding
from ultrarefiner_monai.data.decoding import BITS, MAX_16_BIT, white_of
from ultrarefiner_monai.data.images import AGAIN, to_grey
from ultrarefiner_monai.deploy.images.codestream import check_encapsulated
from ultrarefiner_monai.deploy.images.dicom_header import (
    check_modality,
    header_notes,
    holds_image,
    pixel_spacing,
    printed,
    read_header,
    read_whole,
)
from ultrarefiner_monai.deploy.images.image_file import COLOURED, ImageFile, NoImageError, is_coloured
from ultrarefiner_monai.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM = "a DICOM image"
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
        NoImageError: the file holds a report, a segmentation or the like.
        DataError: the file is damaged, no ultrasound, or has pixels that nothing installed decodes.
    """

    def __init__(self, path: Path, any_modality: bool = False) -> None:
        import_dicom("pydicom")
        with decoding(path, DICOM, AGAIN):
            header, forced = read_header(path)
            if not holds_image(str(header.get("SOPClassUID"))):
                raise NoImageError(f"holds no image, it is {printed(header.SOPClassUID.name)}; name a file with one")
            check_modality(header, any_modality)
            if "Rows" not in header:
                raise ValueError("no image in it")
            _check_decoder(header)
            count = int(header.get("NumberOfFrames") or 1)
            if count < 1:
                raise ValueError(f"NumberOfFrames is {count}")
            _check_size(header, count, path.stat().st_size)
            super().__init__(path, count, pixel_spacing(header))
            self.header, self._is_forced = header, bool(forced)
            self.notes += forced + header_notes(header)

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`."""
        with decoding(self.path, DICOM, AGAIN):
            span = self._span()
        for pixels in self._stored():
            with decoding(self.path, DICOM, AGAIN):
                grey = self._grey(pixels, *span)
            yield grey

    def _stored(self) -> Iterator[np.ndarray]:
        """Stored values of each frame, (H, W) or colours (H, W, 3)."""
        from pydicom.pixels import iter_pixels

        syntax = self.header.file_meta.TransferSyntaxUID
        with decoding(self.path, DICOM, AGAIN):
            # pydicom finds no single frames in a deflated file, and no pixels in one whose own header is incomplete
            if self._is_forced or syntax.is_deflated or syntax.is_encapsulated:
                whole = read_whole(self.path, self.header)
                if syntax.is_encapsulated:
                    check_encapsulated(whole, self.count)
                pixels = iter_pixels(whole)
            else:
                pixels = iter_pixels(self.path)
        for _ in range(self.count):
            with decoding(self.path, DICOM, AGAIN):
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


def _check_decoder(header: "Dataset") -> None:
    """Raise DataError where nothing that is installed decodes the pixels."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    syntax = header.file_meta.TransferSyntaxUID
    stored = f"stored as {printed(syntax.name)} ({printed(syntax)})"
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


def _check_size(header: "Dataset", count: int, size: int) -> None:
    """Refuse an image that claims more than is allowed, or than a file of `size` bytes holds."""
    rows, columns = int(header.Rows), int(header.Columns)
    check_pixels(columns, rows)
    check_frames(count, count * rows * columns, size)
    syntax = header.file_meta.TransferSyntaxUID
    expected = count * rows * columns * int(header.SamplesPerPixel) * int(header.BitsAllocated) // 8
    subsampled = str(header.PhotometricInterpretation) == "YBR_FULL_422"  # a third less than it claims
    if not (syntax.is_encapsulated or syntax.is_deflated or subsampled) and expected > size:
        raise ValueError(f"expected {expected} bytes of pixels by its header, found a file of {size}")


def import_dicom(name: str) -> ModuleType:
    """Import pydicom or highdicom.

    Raises:
        DataError: it is not installed.
    """
    from importlib import import_module

    # What pydicom logs of a damaged file, with tracebacks, is in the error.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        return import_module(name)
    except ImportError as error:
        raise DataError(f"DICOM needs {name} ({error}); run 'pip install ultrarefiner-monai[dicom]'") from None
