"""Local features of an image: places that are found again in a crop, a rotation or another scale of it.

Key points and descriptors are SIFT's (Lowe 2004, as scikit-image computes them), compared as RootSIFT (Arandjelovic and
Zisserman 2012). A descriptor's mirror image is a permutation of it, so mirrored copies take no second look at the file.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.images import open_image, to_grey

SIDE = 256  # px: side of the square with an image's area at which it is looked at; speckle of 2 px and more survives
POINTS = 200  # of an image, the coarsest ones: what a copy in another scale still holds
LENGTH = 128  # of a descriptor: 4 rows x 4 columns x 8 directions
CONTRAST = 0.006  # half of SIFT's own threshold, as much of a breast is dim; finds 190 points in the median image
SMALLEST = 32  # px: a narrower image is enlarged, as the smoothed levels would vanish

# Column 3 - c and direction -d of the mirror image are column c and direction d.
MIRRORED = np.flip(np.arange(LENGTH).reshape(4, 4, 8), axis=1)[..., -np.arange(8) % 8].ravel()


@dataclass(frozen=True)
class Features:
    """An image at working size and its key points.

    `pixels` is (H, W) uint8, `zoom` its pixels a pixel of the file; `places` (n,) complex64 hold x + iy in its pixels;
    `descriptors` (n, 128) float32 have length 1.
    """

    pixels: np.ndarray
    places: np.ndarray
    descriptors: np.ndarray
    zoom: float = 1.0

    def mirrored(self) -> "Features":
        """Key points of the image mirrored left-right, in coordinates of which x = 0 is the mirror's axis."""
        return replace(self, places=-self.places.conj(), descriptors=self.descriptors[:, MIRRORED])


def features_of(path: Path) -> Features:
    """Read and describe an image; `DataError` where it cannot be read. One without structure has no key points."""
    with open_image(path) as image:
        grey = to_grey(image)
    pixels = working_pixels(grey)
    return replace(describe(pixels), zoom=float(np.sqrt(pixels.size / grey.size)))


def working_pixels(grey: np.ndarray) -> np.ndarray:
    """Image (h, w) uint8 of about 256 x 256 pixels from grey values (H, W) in [0, 1], in its own proportions."""
    from PIL import Image

    height, width = grey.shape
    scale = SIDE / np.sqrt(height * width)
    size = (max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale)))
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.round(grey * 255).astype(np.uint8)).resize(size, resampling))


def describe(pixels: np.ndarray) -> Features:
    """Key points of an image (H, W) uint8 at working size."""
    from skimage.feature import SIFT

    sift = SIFT(upsampling=1, c_dog=CONTRAST)
    try:
        sift.detect_and_extract(pixels / np.float32(255))
    except RuntimeError:  # scikit-image's word for no key point at all
        return Features(pixels, np.zeros(0, np.complex64), np.zeros((0, LENGTH), np.float32))
    sigmas, positions, descriptors = map(np.asarray, (sift.sigmas, sift.positions, sift.descriptors))
    coarsest = np.argsort(-sigmas, kind="stable")[:POINTS]
    y, x = positions[coarsest].T
    descriptors = descriptors[coarsest].astype(np.float32)
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1)
    return Features(pixels, (x + 1j * y).astype(np.complex64), np.sqrt(shares))
