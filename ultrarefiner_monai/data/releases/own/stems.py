"""Which mask belongs to which image, from their names alone."""

import os
import re
from collections.abc import Callable, Iterator, Sequence, Set

from ultrarefiner_monai.data.masks_beside import WORDS, letters

IMAGE_WORDS = frozenset(("image", "images", "img", "us", "frame", "original", "orig", "raw", "bmode", "scan"))

Key = Callable[[str], str]
Match = dict[str, list[str]]  # stem of an image -> stems of its masks


def match(images: Sequence[str], masks: Sequence[str]) -> tuple[Match, str]:
    """Masks of each image, from two folders, and how they are called, for people.

    A mask is called like its image with one suffix more, the same for all masks, and with a number where an image has
    several. What all names of a folder begin with, or such words as "mask" and "image", may differ between the two.
    """
    best: tuple[Match, str] = ({}, "")
    for words, image_key, mask_key in _keys(images, masks):
        image_of = {image_key(stem): stem for stem in images}
        mask_of = {mask_key(stem): stem for stem in masks}
        if len(image_of) < len(images) or len(mask_of) < len(masks):
            continue  # names that were told apart by what is left out
        found, suffix = _by_suffix(list(image_of), set(mask_of), anything=True)
        if len(found) > len(best[0]):
            best = {image_of[i]: [mask_of[m] for m in found[i]] for i in found}, words + suffix
    return best


def match_beside(stems: Sequence[str]) -> tuple[Match, str]:
    """Images of one folder that also holds their masks, which are called like them with a word such as "_mask" more."""
    found, suffix = _by_suffix(stems, set(stems), anything=False)
    return found, f"NAME{suffix}"


def _keys(images: Sequence[str], masks: Sequence[str]) -> Iterator[tuple[str, Key, Key]]:
    """What of the names of images and masks is compared: all, all after the common beginning, all but certain words."""
    yield "NAME", str, str
    starts = [re.sub(r"\d+$", "", os.path.commonprefix(list(stems))) for stems in (images, masks)]  # noqa: RUF071 - letters are meant
    if starts[0] not in images and starts[1] not in masks:  # nothing would be left of a name
        words = f"{starts[1]}N for {starts[0]}N"
        yield words, lambda stem: stem.removeprefix(starts[0]), lambda stem: stem.removeprefix(starts[1])
    yield "NAME without such words as mask", _without_words, _without_words


def _without_words(stem: str) -> str:
    parts = [part for part in re.split(r"[\W_]+", stem) if part.casefold() not in WORDS | IMAGE_WORDS]
    return "_".join(filter(None, parts))


def _by_suffix(images: Sequence[str], masks: Set[str], anything: bool) -> tuple[Match, str]:
    """Masks of each image under the suffix that most images have; one of `WORDS` unless it may be `anything`.

    A number alone is a suffix where no mask is called like the image: else it is that of another image.
    """
    by_suffix: dict[str, dict[str, list[tuple[int, str]]]] = {}
    names = set(images)
    for mask in sorted(masks):
        for image, rest in _owners(mask, names):
            suffix, number = _numbered(rest)
            if (anything or _is_word(suffix)) and (suffix or not rest or image not in masks):
                by_suffix.setdefault(suffix, {}).setdefault(image, []).append((number, mask))
                break
    if not by_suffix:
        return {}, ""
    suffix = max(by_suffix, key=lambda one: (len(by_suffix[one]), one == "", _is_word(one), one))
    found = by_suffix[suffix]
    return {image: [mask for _, mask in sorted(found[image])] for image in images if image in found}, suffix


def _owners(mask: str, images: set[str]) -> Iterator[tuple[str, str]]:
    """Images that a mask's name begins with, the longest first, and what follows; never in the middle of a number or word."""
    for end in range(len(mask), 0, -1):
        rest = mask[end:]
        inside = rest[:1].isalnum() and (rest[0].isdigit() or mask[end - 1].isalpha())
        if mask[:end] in images and not inside:
            yield mask[:end], rest


def _numbered(rest: str) -> tuple[str, int]:
    """A suffix without the number at its end, and that number."""
    found = re.fullmatch(r"(.*?)(?:[\s_.\-]*\(?(\d{1,9})\)?)?", rest, re.S)
    return (found[1], int(found[2] or 0)) if found else (rest, 0)


def _is_word(suffix: str) -> bool:
    return letters(suffix) in WORDS
