"""Whether two images show one frame: the similarity transform that their key points agree on, checked on the pixels.

Texts, calipers and frames that a machine draws into every picture agree, too; where the speckle between them does not,
the correlation is low.
"""

from dataclasses import dataclass

import numpy as np

from ultrarefiner_monai.data.releases.copies.features import Features
from ultrarefiner_monai.data.releases.copies.pairs import ONE_SCENE, SAME_FRAME

ALIKE = 0.8  # scalar product from which two descriptors may be one place
MATCHES = 60  # the best ones, of which every two propose a transform
APART = 12.0  # px between the two at least: nearer ones tell direction and scale badly
SCALES = (0.4, 2.5)  # of the second image against the first; crops to 65 % zoomed by 0.6 or 1.6 reach 0.6 to 1.7
TOLERANCE = 4.0  # px within which a match agrees with a transform
MIN_AGREEING = 8  # of two different images 7 at most agree by chance
BAND = (1.0, 4.0)  # px: speckle, without the layers that all breasts share
WINDOW = 8.0  # px over which contrast is evened out, so that bright texts weigh no more than their area
NEARBY = 5  # px: the width of a letter's stroke, and what the band makes of it
DRAWN = 170  # grey values of 255 between neighbours: speckle reaches 120, white lines and letters 200 and more
BLACK = 8  # of 255
SCREEN = 15  # px: the square around a letter, of which most is black
FLAT = 2.5  # of 255 grey values: below this contrast there is nothing to compare
MIN_OVERLAP = 0.08  # of the smaller image's area
SAME = 0.8  # correlation from which it is the same frame: neighbouring ones of a sweep reach 0.75


@dataclass(frozen=True)
class Alignment:
    """The second image is the first one mirrored left-right if so told, scaled and turned by `angle` degrees.

    `correlation` is that of both where they overlap, contrast evened out (-1 to 1); `scale` is in pixels of the files;
    `agreeing` counts matches.
    """

    correlation: float
    scale: float
    angle: float
    mirrored: bool
    agreeing: int

    @property
    def kind(self) -> str:
        """The same frame for sure, or what its correlation leaves open."""
        return SAME_FRAME if self.correlation >= SAME else ONE_SCENE

    def __str__(self) -> str:
        changes = ["mirrored"] * self.mirrored + [f"turned by {self.angle:.0f}°"] * (abs(self.angle) >= 1)
        return ", ".join([*changes, f"scale {self.scale:.2f}"])


def transform(first: Features, second: Features) -> tuple[complex, complex, int] | None:
    """Factor s and shift o of `s z + o` that takes key points z of the first to the second, and how many agree."""
    if not len(first.places) or not len(second.places):
        return None
    alike = first.descriptors @ second.descriptors.T
    partner = alike.argmax(axis=1)
    value = alike[np.arange(len(partner)), partner]
    best = np.argsort(-value, kind="stable")[:MATCHES]
    best = best[value[best] >= ALIKE]
    a, b = first.places[best], second.places[partner[best]]
    i, j = np.triu_indices(len(a), 1)
    gap = np.abs(a[i] - a[j])
    i, j = i[gap > APART], j[gap > APART]
    factors = (b[i] - b[j]) / (a[i] - a[j])
    likely = (np.abs(factors) > SCALES[0]) & (np.abs(factors) < SCALES[1])
    i, factors = i[likely], factors[likely]
    if not len(factors):
        return None
    shifts = b[i] - factors * a[i]
    agrees = np.abs(factors[:, None] * a + shifts[:, None] - b) < TOLERANCE
    chosen = agrees[agrees.sum(axis=1).argmax()]
    a, b = a[chosen], b[chosen]
    centred = a - a.mean()
    factor = (centred.conj() * (b - b.mean())).sum() / (np.abs(centred) ** 2).sum()
    return complex(factor), complex(b.mean() - factor * a.mean()), int(chosen.sum())


def align(first: Features, second: Features, mirrored: bool) -> Alignment | None:
    """How the second image lies on the first, which is mirrored before if so told; None where too little agrees."""
    found = transform(first.mirrored() if mirrored else first, second)
    if found is None or found[2] < MIN_AGREEING:
        return None
    factor, shift, agreeing = found
    value = _correlation(first.pixels, second.pixels, factor, shift, mirrored)
    scale = abs(factor) * first.zoom / second.zoom
    return Alignment(value, scale, float(np.degrees(np.angle(factor))), mirrored, agreeing)


def _correlation(first: np.ndarray, second: np.ndarray, factor: complex, shift: complex, mirrored: bool) -> float:
    """Normalised cross-correlation of the speckle of two images (H, W) where they overlap, on the coarser one's grid.

    A point z = x + iy of the first (mirrored: -x + iy) lies at `factor z + shift` of the second. 0 where little overlaps.
    """
    if abs(factor) <= 1:  # the second is the coarser one: its grid asks the first for values
        place = (_grid(second.shape) - shift) / factor
        moved, inside = _at(first, -place.conj() if mirrored else place, 1 / abs(factor))
        still = second
    else:
        place = _grid(first.shape)
        moved, inside = _at(second, factor * (-place.conj() if mirrored else place) + shift, abs(factor))
        still = first
    one, other = _speckle(still.astype(np.float32)), _speckle(moved)
    compared = inside & np.isfinite(one) & np.isfinite(other)
    if compared.sum() < MIN_OVERLAP * min(first.size, second.size):
        return 0.0
    return float(np.corrcoef(one[compared], other[compared])[0, 1])


def _grid(shape: tuple[int, ...]) -> np.ndarray:
    """Coordinates x + iy (H, W) of an image's pixels."""
    y, x = np.indices(shape, dtype=np.float32)
    return x + 1j * y


def _at(pixels: np.ndarray, place: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Grey values (H, W) of an image at the coordinates `place`, and where its band does not reach outside.

    `step` is the distance in pixels of two neighbouring coordinates, at least 1; what is finer is smoothed away before.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    smooth = gaussian_filter(pixels.astype(np.float32), 0.5 * np.sqrt(step**2 - 1))
    (height, width), x, y, margin = pixels.shape, place.real, place.imag, BAND[1] * step
    inside = (x > margin) & (y > margin) & (x < width - 1 - margin) & (y < height - 1 - margin)
    return map_coordinates(smooth, (y, x), order=1, mode="nearest"), inside


def _speckle(grey: np.ndarray) -> np.ndarray:
    """Band-pass (H, W) float32 of grey values, divided by its own root mean square nearby; NaN where there is no tissue.

    That is where it is flat or mostly black around, as on the screen that texts are written on, and around what is
    drawn in white.
    """
    from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, uniform_filter

    band = gaussian_filter(grey, BAND[0]) - gaussian_filter(grey, BAND[1])
    contrast = np.sqrt(gaussian_filter(band**2, WINDOW))
    steps = maximum_filter(grey, NEARBY) - minimum_filter(grey, NEARBY)
    drawn = maximum_filter(steps > DRAWN, NEARBY)
    black = uniform_filter((grey < BLACK).astype(np.float32), SCREEN) > 0.5
    tissue = (contrast > FLAT) & ~drawn & ~black
    return np.divide(band, contrast, out=np.full_like(band, np.nan), where=tissue)
