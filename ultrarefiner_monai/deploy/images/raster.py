"""PNG, JPEG, BMP and TIFF files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.images import open_image, to_grey
from ultrarefiner_monai.deploy.images.image_file import ImageFile

TIFFS = (".tif", ".tiff")


class RasterFile(ImageFile):
    """PNG, JPEG, BMP, or TIFF, whose pages are frames; read as the training reads its images.

    Their resolution (dpi) is that of a screen or a printer, so it is not taken for the size of a pixel.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _pages(path) if path.suffix.lower() in TIFFS else 1)

    def frames(self) -> Iterator[np.ndarray]:
        """As `ImageFile.frames`."""
        with open_image(self.path) as image:
            for index in range(self.count):
                if index:
                    image.seek(index)
                yield to_grey(image)


def _pages(path: Path) -> int:
    with open_image(path) as image:
        return getattr(image, "n_frames", 1)
