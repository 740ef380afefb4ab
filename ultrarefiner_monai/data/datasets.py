"""Names of data sets: one, or several joined by `+` for a manifest over all of them."""

from ultrarefiner_monai.errors import DataError, did_you_mean

DATASETS = ("BUSI", "BUSBRA", "BUS", "BUS_UC", "BUS_UCLM", "UDIAT", "PHANTOM")
FIVE = DATASETS[:5]  # what `manifests build ALL` builds; UDIAT is a second name for BUS, PHANTOM is synthetic


def check_name(name: str) -> None:
    """Raise `DataError`, with the name probably meant, if `name` is neither a data set nor a combination of some."""
    parts = str(name).split("+")
    for part in parts:
        if part not in DATASETS:
            hint = did_you_mean(part.upper().replace("-", "_"), DATASETS)
            raise DataError(f"unknown dataset {part!r}: {hint}")
    if parts != (ordered := [known for known in DATASETS if known in parts]):
        raise DataError(f"combined dataset {name!r}: name each once and in this order: {'+'.join(ordered)}")


def parts_of(name: str) -> list[str]:
    """Data sets that a checked name combines; the name itself where it is a single one."""
    check_name(name)
    return name.split("+")
