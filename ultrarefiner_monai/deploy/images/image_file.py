"""What every kind of image file gives: frames of grey values, and the spacing of their pixels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

Spacing = tuple[float, float]  # mm from one pixel's centre to the next: down a column (y), along a row (x)


class ImageFile:
    """A file with one image, or with several frames of one size.

    Attributes:
        path: the file.
        count: number of frames.
        spacing: size of a pixel, None where the file does not tell.
    """

    def __init__(self, path: Path, count: int = 1, spacing: Spacing | None = None) -> None:
        self.path = path
        self.count = count
        self.spacing = spacing

    def frames(self) -> Iterator[np.ndarray]:
        """Grey values (H, W) float32 in [0, 1] of one frame after the other.

        Raises:
            DataError: the file is damaged, or of a kind that has no defined grey values.
        """
        raise NotImplementedError
