"""Numbers for files that have no word for those that are undefined."""

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any, instead: Any = None) -> Any:
    """A copy of plain values, nested or not, with `instead` for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(part, instead) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part, instead) for part in value]
    return instead if isinstance(value, float) and not math.isfinite(value) else value
