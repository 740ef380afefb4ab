"""Files named like a changed copy of another: `a_rot15` or `a - Copy (2)` beside `a`.

Published sets are handed on with augmented images among the originals. Whatever was done to such an image, it shows
what its origin shows.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ultrarefiner_monai.data.releases.copies.pairs import NAMED, NAMES, CopyPair
from ultrarefiner_monai.data.releases.records import Record

# What augmentation scripts (Albumentations, imgaug, Augmentor, Keras) and file managers (Windows, macOS, GNOME) append.
_WORDS = (
    "aug augm augmented copy clone dup duplicate rot rotate rotated rotation flip flipped hflip vflip fliplr flipud lr ud"
    " mirror mirrored crop cropped zoom zoomed scale scaled resize resized shift shifted translate translated shear sheared"
    " elastic warp noise noisy gauss gaussian blur blurred bright brightness dark contrast gamma clahe equalized sharp"
    " sharpen jpeg transform transformed"
)
_NUMBER = r"[ _.-]*[+-]?\d{0,4}(?:\.\d+)?(?:deg)?(?: ?\(\d{1,3}\))?"
_WORD = re.compile(rf"[ _.-]+(?:{'|'.join(sorted(_WORDS.split(), key=len, reverse=True))}){_NUMBER}$", re.IGNORECASE)
_COUNT = re.compile(r" ?\(\d{1,3}\)$")  # of a second download; also how some releases number their images


def named_pairs(records: Sequence[Record]) -> list[CopyPair]:
    """Each record that is named like a changed copy of another in its folder, after that other, in order.

    A number in parentheses counts only while fewer than half of the images bear one after another's name: else it is
    how the release numbers them.
    """
    by_stem = {_stem(record): record for record in records}
    origins = {stem: origin for stem in by_stem if (origin := _origin(stem, by_stem, (_WORD, _COUNT)))}
    counted = [stem for stem, origin in origins.items() if not _origin(stem, by_stem, (_WORD,))]
    if 2 * len(counted) >= len(by_stem):
        origins = {stem: origin for stem in by_stem if (origin := _origin(stem, by_stem, (_WORD,)))}
    return [CopyPair(by_stem[origin], by_stem[stem], NAMED, NAMES) for stem, origin in origins.items()]


def _stem(record: Record) -> str:
    """Path of the image without its suffix."""
    return str(PurePosixPath(record.source.image).with_suffix(""))


def _origin(stem: str, known: dict[str, Record], patterns: Sequence[re.Pattern[str]]) -> str:
    """The longest known stem that is left when what a change appends is taken off, "" where there is none."""
    while match := next((found for pattern in patterns if (found := pattern.search(stem))), None):
        stem = stem[: match.start()]
        if stem in known:
            return stem
    return ""
