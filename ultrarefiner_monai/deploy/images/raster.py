"""PNG, JPEG, BMP and TIFF files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ultrarefiner_monai.data.decoding import deep_values, turn, white_of_image
from ultrarefiner_monai.data.images import open_image, to_grey
from ultrarefiner_monai.deploy.images.image_file import COLOURED, ImageFile, is_coloured
from ultrarefiner_monai.errors import DataError, one_line

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
            with open_image(path) as image, _page("the number of pages"):
                count, self._is_deep = getattr(image, "n_frames", 1), deep_values(image) is not None
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
            with _page(f"page {index + 1}"):
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


@contextmanager
def _page(what: str) -> Iterator[None]:
    """Tell in one line that something of an open file cannot be read."""
    try:
        yield
    except Exception as error:  # a damaged file may fail in any way at all
        raise DataError(f"{what} cannot be read ({one_line(error)}); copy it again from its source") from None
