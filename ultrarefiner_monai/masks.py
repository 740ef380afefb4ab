"""When a probability is lesion."""

from typing import Any

from ultrarefiner_monai.errors import DataError

THRESHOLD = 0.5  # probability from which a pixel is lesion, unless the user says otherwise


def check_threshold(value: Any) -> float:
    """The value, if it can be a threshold.

    Raises:
        DataError: it is no number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"threshold {value}: expected a probability from 0 to 1")
    return float(value)
