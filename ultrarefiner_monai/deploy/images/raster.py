"""PNG, JPEG, BMP and TIFF files."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultrarefiner_monai.data.decoders import check_frames, decoding
from ultrarefiner_monai.data.decoding import deep_values, turn, white_of_image
from ultrarefiner_monai.data.images import AGAIN, open_image, to_grey
from ultrarefiner_monai.deploy.images.image_file import COLOURED, ImageFile, is_coloured

if TYPE_CHECKING:
    from PIL import Image

TIFFS = (".tif", ".tiff")


class RasterFile(ImageFile):
    """PNG, JPEG, BMP, or TIFF, whose pages are frames; read as the training reads its images.

    Their resolution (dpi) is that of a screen or a printer, so it is not taken for the size of a pixel.
    """

    def __init__(self, path: Path) -> None:
        count, self._is_deep = 1, False
        if path.suffix.lower() in TIFFS:
            with open_image(path) as image, decoding("its pages", "TIFF", AGAIN):
                count, self._is_deep = _count_pages(image, path.stat().st_size), deep_values(image) is not None
        super().__init__(path, count)

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`; one stored value is white in all pages of a TIFF."""
        white = None
        if self.count > 1 and self._is_deep:
            with open_image(self.path) as image:
                white = max(white_of_image(page) for page in self._pages(image))
        with open_image(self.path) as image:
            for page in self._pages(image):
                grey = to_grey(page, white)
                self._describe(page, white or white_of_image(page))
                yield grey

    def _pages(self, image: "Image.Image") -> Iterator["Image.Image"]:
        yield image
        for index in range(1, self.count):
            with decoding(f"page {index + 1}", "TIFF", AGAIN):
                image.seek(index)
                turn(image)
            yield image

    def _describe(self, page: "Image.Image", white: int) -> None:
        if (orientation := page.info["orientation"]) != 1:
            self.note(
                f"turned as its EXIF orientation {orientation} says; mask and sizes are those of the turned image"
            )
        if deep_values(page) is not None:
            self.note_white(white)
        elif page.mode not in ("1", "L", "LA", "La") and is_coloured(np.asarray(page.convert("RGB"))):
            self.note(COLOURED)


def _count_pages(image: "Image.Image", size: int) -> int:
    """Number of pages of a TIFF of `size` bytes, if their headers claim no more than that can hold."""
    from PIL import ImageSequence

    pixels = [page.width * page.height for page in ImageSequence.Iterator(image)]
    check_frames(len(pixels), sum(pixels), size)
    return len(pixels)
