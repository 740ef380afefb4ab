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

# Axes (0: rows, 1: columns) that turn an image into its mirror image.
MIRRORS = {"none": (), "left-right": (1,), "top-bottom": (0,), "both": (0, 1)}
# Whether each of them inverts the bits of even or odd rows (0, 1) and, of each, of even or odd columns.
INVERTED = np.array(
    [[(0 in axes) * row ^ (1 in axes) * column for row in (0, 1) for column in (0, 1)] for axes in MIRRORS.values()],
    bool,
)


def near_duplicate_pairs(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs (i < j, in order) of images that are nearly equal, mirrored or not.

    `hashes` are 64 hexadecimal digits each; two images are near-duplicates when their hashes, or one's hash and the
    other's mirrored hash, differ in at most `MAX_DISTANCE` of 256 bits.
    """
    parts = _parts(hash_bits(hashes))
    return [(i, i + 1 + j) for i in range(len(hashes)) for j in _near(parts[:, i], parts[:, i + 1 :])]


def near_duplicates_between(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs of near-duplicates between two datasets: i into `first`, j into `second`."""
    ours, theirs = _parts(hash_bits(first)), _parts(hash_bits(second))
    return [(i, j) for i in range(len(first)) for j in _near(ours[:, i], theirs)]


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


def _parts(bits: np.ndarray) -> np.ndarray:
    """Bits (n, 256) as four numbers of 64 bits each, (4, n) uint64: by the parity of a bit's row, then of its column.

    A mirror inverts a part as a whole or not at all.
    """
    half = HASH_SIDE // 2
    by_parity = bits.reshape(-1, half, 2, half, 2).transpose(2, 4, 0, 1, 3).reshape(4, -1, half**2)
    return np.packbits(by_parity, axis=2).view(np.uint64)[..., 0]


def _near(one: np.ndarray, others: np.ndarray) -> list[int]:
    """Which of the hashes in parts (4, n) differ from `one`, in parts (4,), in few bits, as they are or mirrored.

    No index prunes 60 of 256 bits, so all are looked at, but at three parts only: whatever the mirror, a part adds at least the
    smaller of its differing and its equal bits. One in 700 000 pairs of random hashes goes on to be compared with each mirror.
    """
    apart = np.bitwise_count(one[:3, None] ^ others[:3])
    candidates = np.flatnonzero(np.minimum(apart, 64 - apart).sum(axis=0) <= MAX_DISTANCE)
    apart = np.bitwise_count(one[:, None] ^ others[:, candidates])
    distances = np.where(INVERTED[..., None], 64 - apart, apart).sum(axis=1).min(axis=0)
    return candidates[distances <= MAX_DISTANCE].tolist()
