"""When a probability is lesion."""

from typing import TYPE_CHECKING, Any

from ultrarefiner_monai.errors import DataError

if TYPE_CHECKING:
    import numpy as np

THRESHOLD = 0.5  # probability from which a pixel is lesion, unless the user says otherwise


def check_threshold(value: Any) -> float:
    """The value, if it can be a threshold.

    Raises:
        DataError: it is no number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"threshold {value}: expected a probability from 0 to 1")
    return float(value)


def without_islands(probability: "np.ndarray", share: float, threshold: float = THRESHOLD) -> "np.ndarray":
    """The map without the parts of its mask that little speaks for.

    Parts are 8-connected places of at least `threshold`; what speaks for one is its pixels' excess over that, summed. Where this
    is less than `share` of what speaks for the foremost part, the probability becomes the largest one below `threshold`.

    Args:
        probability: (H, W), or (C, H, W) of maps that are each taken by themselves.
        share: from 0, which leaves all parts, to 1.
        threshold: probability from which a pixel is lesion.

    Returns:
        Of the same shape and type; the map itself where nothing is to be left out.

    Example:
        >>> import numpy as np
        >>> probability = np.array([[0.9, 0.9, 0.1, 0.6]])  # excess over 0.5: 0.8 of the left part, 0.1 of the right one
        >>> without_islands(probability, share=0.2) >= THRESHOLD
        array([[ True,  True, False, False]])
    """
    if not share:
        return probability
    import numpy as np  # here, as command lines that need the threshold alone start in a moment
    from scipy.ndimage import label

    if probability.ndim == 3:
        return np.stack([without_islands(one, share, threshold) for one in probability])
    parts, count = label(probability >= threshold, np.ones((3, 3)))
    if count < 2:
        return probability
    excess = np.bincount(parts.ravel(), np.where(parts > 0, probability - threshold, 0).ravel())
    dropped = excess < share * excess.max()
    dropped[0] = False  # what is no part
    below = np.nextafter(probability.dtype.type(threshold), probability.dtype.type(-1))
    return np.where(dropped[parts], below, probability)
