"""Near-duplicate images: found from their perceptual hashes, checked on thumbnails.

Groups for splits rest on the hash alone, which is known from files and tables alike: a false hit there only keeps two
images on one side. What is reported and left out also has to pass `correlation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ultrarefiner_monai.data.releases.copies.pairs import ImagePair
from ultrarefiner_monai.data.releases.copies.perceptual_hashes import MIRRORS, hash_bits, mirrors, near_duplicate_pairs
from ultrarefiner_monai.data.releases.image_facts import THUMBNAIL
from ultrarefiner_monai.data.releases.records import Record

# Structure compared between thumbnails: finer than the layers that all breasts share (about 4 of 64 px), coarser than
# what a shift or crop of 2 % moves (1 px).
BAND = (1.0, 4.0)
MARGIN = 4  # px of 64 by which one thumbnail may be moved against the other: 6 % of the side
# Of 16 796 planted copies none is below 0.75, of the samples' own near-duplicates none below 0.69; of 20 150 pairs of
# different patients none is above 0.54 (docs/reference/near_duplicates.md).
MIN_CORRELATION = 0.6


@dataclass(frozen=True)
class DuplicatePair(ImagePair):
    """Two images that the perceptual hash calls the same.

    `distance` counts the differing bits of 256, after mirroring one as `mirror` says.
    """

    distance: int
    mirror: str

    @cached_property
    def correlation(self) -> float | None:
        """Of the thumbnails (1: the same, 0: unrelated); None where one record has none and the bytes differ."""
        if self.first.sha256 == self.second.sha256:
            return 1.0
        if self.first.thumbnail is None or self.second.thumbnail is None:
            return None
        return correlation(self.first.thumbnail, self.second.thumbnail, self.mirror)

    @property
    def confirmed(self) -> bool:
        """The pixels were compared and agree."""
        return self.correlation is not None and self.correlation >= MIN_CORRELATION

    @property
    def refuted(self) -> bool:
        """The pixels were compared and differ: a false hit of the hash."""
        return self.correlation is not None and self.correlation < MIN_CORRELATION

    @property
    def duplicate(self) -> bool:
        """One of both is as good as both: the pixels do not refute what the hash says."""
        return not self.refuted


def duplicate_pairs(records: Sequence[Record]) -> list[DuplicatePair]:
    """All pairs of near-duplicates, in order of the records, each mirrored the way in which the hashes agree best.

    False hits of the hash are among them, `refuted`.
    """
    hashes = [record.phash16 for record in records]
    bits, pairs = hash_bits(hashes), []
    for i, j in near_duplicate_pairs(hashes):
        distances = (bits[i] ^ bits[j] ^ mirrors()).sum(axis=1, dtype=int)
        pairs.append(DuplicatePair(records[i], records[j], int(distances.min()), list(MIRRORS)[distances.argmin()]))
    return pairs


def correlation(first: bytes, second: bytes, mirror: str = "none") -> float:
    """Highest normalised cross-correlation of two thumbnails' structure over shifts of up to 4 px, from -1 to 1.

    The thumbnails are 64 x 64 grey values; `mirror` (a key of `MIRRORS`) is applied to the first. Thumbnails without
    any structure have correlation 0.
    """
    from skimage.feature import match_template

    template = np.flip(_structure(first), MIRRORS[mirror])[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return float(match_template(_structure(second), template).max())


def _structure(thumbnail: bytes) -> np.ndarray:
    """Band-pass (64, 64) float64 of a thumbnail."""
    from skimage.filters import difference_of_gaussians

    grey = np.frombuffer(thumbnail, dtype=np.uint8).reshape(THUMBNAIL, THUMBNAIL)
    return difference_of_gaussians(grey.astype(np.float64), *BAND)
