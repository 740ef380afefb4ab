"""Search for copies by content: crops, zooms, rotations, mirror images and what these make together.

Two stages. All pairs of images: how many key points of one have a like in the other, by one matrix product a pair.
Those with many: a transform that the matches agree on, and the correlation of the pixels that it lays on each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ultrarefiner_monai.data.releases.copies.alignment import Alignment, align
from ultrarefiner_monai.data.releases.copies.features import LENGTH, MIRRORED, Features, features_of
from ultrarefiner_monai.parallel import in_parallel

POINTS = 128  # of an image that the first stage compares: 780 images take a minute of one core
LIKE = 0.92  # scalar product of two descriptors that counts as a vote
MIN_VOTES = 7
NEAREST = 10  # images by votes that each image is compared with further, and
MANY = 30  # votes from which a pair is compared whatever its rank, as in a set with dozens of copies of one image
BLOCK = 32  # images compared with one at once: their products (4096 x 128 float32, 2 MB) stay in the processor's cache

# Planted copies reach 0.79, frames of one sweep 0.55 to 0.75, different patients 0.2 at most
# (docs/reference/near_duplicates.md).
MIN_CORRELATION = 0.5


@dataclass(frozen=True)
class Match:
    """Images `first` < `second` of a list that show the same frame, and how they lie on each other."""

    first: int
    second: int
    alignment: Alignment


def search_files(files: Sequence[Path], workers: int | None = None) -> list[Match]:
    """Read image files and search them, with a progress bar a stage; `DataError` where one cannot be read.

    Args:
        files: of the images; 780 take some minutes on two cores.
        workers: threads; None is one a core.
    """
    return search(in_parallel(features_of, files, workers, "describing images"), workers)


def search(features: Sequence[Features], workers: int | None = None) -> list[Match]:
    """All pairs of images that show the same frame, in order, each the way in which they agree best."""
    candidates = list(_candidates(_votes(features, workers)))
    aligned = in_parallel(lambda c: align(features[c[0]], features[c[1]], c[2]), candidates, workers, "aligning pairs")
    pairs = [
        ((first, second), found)
        for (first, second, _), found in zip(candidates, aligned, strict=True)
        if found and found.correlation >= MIN_CORRELATION
    ]
    best = dict(sorted(pairs, key=lambda pair: pair[1].correlation))  # mirrored or not, whichever agrees better
    return [Match(first, second, best[first, second]) for first, second in sorted(best)]


def _votes(features: Sequence[Features], workers: int | None) -> np.ndarray:
    """Votes (2, n, n) uint8 of each image's key points, as it is and mirrored, for each later image."""
    points = np.zeros((len(features), POINTS, LENGTH), np.float32)
    for row, image in zip(points, features, strict=True):
        row[: len(image.descriptors)] = image.descriptors[:POINTS]
    votes = np.zeros((2, len(features), len(features)), np.uint8)

    def vote(first: int) -> None:
        for mirrored, mine in enumerate((points[first], points[first][:, MIRRORED])):
            for start in range(first + 1, len(points), BLOCK):
                others = points[start : start + BLOCK]
                alike = (others.reshape(-1, LENGTH) @ mine.T).reshape(len(others), POINTS, POINTS)
                votes[mirrored, first, start : start + len(others)] = (alike.max(axis=1) > LIKE).sum(axis=1)

    in_parallel(vote, range(len(features)), workers, "comparing images")
    return votes


def _candidates(votes: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    """Pairs that are worth a second look, mirrored or not, in order."""
    most = votes.max(axis=0)
    most = np.maximum(most, most.T)
    ranked = np.sort(most, axis=1)[:, -NEAREST:][:, :1] if len(most) else most
    near = most >= np.maximum(ranked, MIN_VOTES)
    chosen = np.triu(near | near.T | (most >= MANY), 1)
    for first, second in np.argwhere(chosen):
        for mirrored in (False, True):
            if votes[int(mirrored), first, second] >= MIN_VOTES:
                yield int(first), int(second), mirrored
