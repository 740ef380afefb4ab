"""Names of data sets: known releases, anybody's own, or several joined by `+` for a manifest over all of them."""

import re

from ultrarefiner_monai.errors import DataError

VOLUMES = ("BTCV", "AMOS", "NIFTI")  # sets of volumes; none can be joined with another
DATASETS = ("BUSI", "BUSBRA", "BUS", "BUS_UC", "BUS_UCLM", "UDIAT", "PHANTOM", *VOLUMES)
FIVE = DATASETS[:5]  # what `manifests build ALL` builds; UDIAT is a second name for BUS, PHANTOM is synthetic
OWN_NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"  # becomes a file, a folder and an experiment


def is_own(name: str) -> bool:
    """Whether a single name is none of a known release."""
    return name not in DATASETS


def check_name(name: str) -> None:
    """Raise `DataError`, with the name probably meant, if `name` can be neither a data set's nor a combination's.

    A name of one's own that spells a known one in another way is taken for a mistake: some file systems cannot tell them
    apart either.
    """
    parts = str(name).split("+")
    for part in filter(is_own, parts):
        if meant := [known for known in DATASETS if _letters(known) == _letters(part)]:
            raise DataError(f"unknown dataset {part!r}: did you mean '{meant[0]}'?")
        if part.upper() == "ALL" or not re.fullmatch(OWN_NAME, part):
            raise DataError(
                f"unknown dataset {part!r}: expected one of {', '.join(DATASETS)}, or a name of your own of up to 64"
                " letters (A to Z), digits, '_' and '-'"
            )
    ordered = [known for known in DATASETS if known in parts] + sorted(set(filter(is_own, parts)))
    if parts != ordered:
        raise DataError(f"combined dataset {name!r}: name each once and in this order: {'+'.join(ordered)}")


def parts_of(name: str) -> list[str]:
    """Data sets that a checked name combines; the name itself where it is a single one."""
    check_name(name)
    return name.split("+")


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).upper()
