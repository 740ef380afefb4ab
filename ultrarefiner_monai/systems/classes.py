"""Names of the classes that a network tells apart, as the key `classes` gives them."""

import re

from ultrarefiner_monai.errors import DataError

LESION = "lesion"  # all classes as one; none is told apart
CLASSES, ORGANS = "classes", "organs"  # what names are of: an image's class, or organs that a slice may show several of
DICE = "dice"  # ends the names of columns that masks are known by
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")  # names are parts of folders and of columns


def told_apart(classes: str) -> tuple[str, ...]:
    """The names in `benign+malignant`, in their order; none in `lesion`.

    Raises:
        DataError: a single name, a doubled one, one that means something else, or one that is not made of letters, digits, `_`
            and `-`.
    """
    if classes == LESION:
        return ()
    names = tuple(str(classes).split("+"))
    if len(set(names)) < max(2, len(names)) or {LESION, DICE} & {*names} or not all(map(NAME.fullmatch, names)):
        raise DataError(f"classes '{classes}': expected {LESION}, or two or more names such as benign+malignant")
    return names
