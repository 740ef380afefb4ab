"""What every kind of image file gives: frames of grey values, the spacing of their pixels, and what is odd about it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.decoding import BITS
from ultrarefiner_monai.errors import DataError

Spacing = tuple[float, float]  # mm from one pixel's centre to the next: down a column (y), along a row (x)

COLOURED = "coloured pixels, such as colour Doppler or large marks, are read as luma"
COLOUR_LEVELS = 60  # between a pixel's channels: above what JPEG and tinted greys make of grey
COLOUR_SHARE = 0.0015  # of the pixels: BUS-UCLM's thin marks take up to 0.10 %, its smallest Doppler 0.19 %


class NoImageError(DataError):
    """A sound file of a kind that holds no image, such as a report: one to pass over."""


class ImageFile:
    """A file with one image, or with several frames of one size.

    Attributes:
        path: the file.
        count: number of frames.
        spacing: size of a pixel, None where the file does not tell.
        notes: how it was understood where files differ, a line each; complete once its frames have been read.
    """

    def __init__(self, path: Path, count: int = 1, spacing: Spacing | None = None) -> None:
        self.path = path
        self.count = count
        self.spacing = spacing
        self.notes: list[str] = []

    def frames(self) -> Iterator[np.ndarray]:
        """Grey values (H, W) float32 in [0, 1] of one frame after the other.

        Raises:
            DataError: the file is damaged, or of a kind that has no defined grey values.
        """
        raise NotImplementedError

    def note(self, line: str) -> None:
        """Add a line to the notes, once."""
        if line not in self.notes:
            self.notes.append(line)

    def note_white(self, white: int) -> None:
        """Note which stored value is white where that was told from the largest one."""
        bits = f"the fewest of {', '.join(map(str, BITS))} bits that hold all values"
        self.note(f"grey values: white is {white}" + ("" if white == 1 else f", {bits}"))


def is_coloured(pixels: np.ndarray) -> bool:
    """Whether RGB pixels (H, W, 3) uint8 show more colour than marks on a grey image, such as colour Doppler."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    brightest, darkest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return bool((brightest - darkest > COLOUR_LEVELS).mean() > COLOUR_SHARE)  # many times faster than np.ptp
