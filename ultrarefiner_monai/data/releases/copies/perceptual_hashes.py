"""Perceptual hashes of images, and which of them are so near that the images are copies.

The hash (`imagehash.phash`, 16 x 16) holds the signs, about the median, of an image's lowest 2-D cosine frequencies.
Mirroring an image left-right negates its odd horizontal frequencies, so the hash of the mirror image is the hash with
its odd columns inverted (up to the few coefficients near the median: 34 of 256 bits at most over 988 mirrored real
images); likewise odd rows for top-bottom. So mirrored copies are found without opening an image again.
"""

from collections.abc import Sequence

import numpy as np

from ultrarefiner_monai.errors import DataError

HASH_SIDE = 16
HASH_BITS = HASH_SIDE**2
# Over the complete releases, copies of one image lie at most 60 bits apart and different patients' images at least 68
# (BUS-BRA, 1.76 million pairs); between an image and another's mirror image the smallest distance is 74.
MAX_DISTANCE = 60
BLOCK = 2048  # rows compared at once: 2048 x 10 000 float32 distances are 80 MB

# Axes (0: rows, 1: columns) that turn an image into its mirror image.
MIRRORS = {"none": (), "left-right": (1,), "top-bottom": (0,), "both": (0, 1)}


def near_duplicate_pairs(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs (i < j, in order) of images that are nearly equal, mirrored or not.

    `hashes` are 64 hexadecimal digits each; two images are near-duplicates when their hashes, or one's hash and the
    other's mirrored hash, differ in at most `MAX_DISTANCE` of 256 bits.
    """
    bits = hash_bits(hashes)
    found: set[tuple[int, int]] = set()
    for mirror in mirrors():
        found.update(_close(bits, bits ^ mirror))
    return sorted((i, j) for i, j in found if i < j)


def near_duplicates_between(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs of near-duplicates between two datasets: i into `first`, j into `second`."""
    pairs = near_duplicate_pairs([*first, *second])
    return [(i, j - len(first)) for i, j in pairs if i < len(first) <= j]


def hash_bits(hashes: Sequence[str]) -> np.ndarray:
    """Bits (n, 256) uint8 of hexadecimal hashes, row by row of the 16 x 16 hash."""
    for text in hashes:
        if len(text) != HASH_BITS // 4:
            raise DataError(
                f"perceptual hash {text!r}: expected {HASH_BITS // 4} hexadecimal digits, found {len(text)}"
            )
    try:
        packed = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8)
    except ValueError as error:
        raise DataError(f"perceptual hashes: expected hexadecimal digits ({error})") from None
    return np.unpackbits(packed.reshape(len(hashes), HASH_BITS // 8), axis=1)


def mirrors() -> np.ndarray:
    """Bit masks (4, 256) uint8 that turn a hash into that of the image mirrored as `MIRRORS` says, in its order."""
    row, column = np.indices((HASH_SIDE, HASH_SIDE), dtype=np.uint8) % 2
    masks = [(0 in axes) * row ^ (1 in axes) * column for axes in MIRRORS.values()]
    return np.stack(masks).reshape(len(MIRRORS), HASH_BITS)


def _close(bits: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i, j) of rows that differ in few bits: with signs s = 1 - 2b, the distance is (256 - s_i . s_j) / 2."""
    signs, other_signs = (1 - 2 * rows.astype(np.float32) for rows in (bits, others))
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(signs), BLOCK):
        distance = (HASH_BITS - signs[start : start + BLOCK] @ other_signs.T) / 2
        rows, columns = np.nonzero(distance <= MAX_DISTANCE)
        pairs += zip((rows + start).tolist(), columns.tolist(), strict=True)
    return pairs
