"""Do pixels with a probability of 0.8 turn out to be lesion in 80 % of the cases?

Everything follows from sums over bins of equal width, which add up over images: no map is kept.
"""

from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter

from ultrarefiner_monai.metrics.boundaries import band_width

BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML
REGIONS = ("all", "lesion")


def calibration_sums(prob: np.ndarray, target: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Sums over the bins of one image's probabilities: float64 (C, region, 3, bins); those of several images may be added.

    The regions: "all" pixels, of which most are background that nobody doubts, so that its error is close to 0 for any
    network; and "lesion", the true lesion with a margin of 2 % of the image's diagonal (the width of boundary IoU's
    band), where decisions are made and misses are included. An image without a lesion adds nothing to the second.

    Args:
        prob: (C, H, W) lesion probabilities of C networks; values that are not finite are left out.
        target: (H, W) bool true mask.
        bins: number of bins [i / bins, (i + 1) / bins); the last includes 1.

    Returns:
        For each region: number of pixels, sum of their probabilities, number of lesion pixels among them.
    """
    margin = maximum_filter(target, size=2 * band_width(target.shape) + 1, mode="constant", cval=0)
    sums = [
        [_sums(channel[region], target[region], bins) for region in (finite, finite & margin)]
        for channel, finite in zip(prob, np.isfinite(prob), strict=True)
    ]
    return np.array(sums)


def _sums(prob: np.ndarray, target: np.ndarray, bins: int) -> np.ndarray:
    which = np.clip(prob * bins, 0, bins - 1).astype(np.intp)
    weights = (None, prob, target)
    return np.stack([np.bincount(which, weight, minlength=bins) for weight in weights]).astype(np.float64)


def calibration_error(sums: np.ndarray) -> float:
    """Expected calibration error of a region's sums (3, bins): sum over bins of `n_b / n |accuracy_b - confidence_b|`.

    The binary form of Guo et al. 2017: confidence is the mean probability of lesion in a bin, accuracy the share of its
    pixels that are lesion. NaN without pixels.
    """
    pixels, confidence, accuracy = sums
    return float(np.abs(accuracy - confidence).sum() / pixels.sum()) if pixels.any() else float("nan")


def reliability(sums: np.ndarray) -> dict[str, Any]:
    """A region's reliability diagram as plain values: `ece`, and lists over bins of pixels, confidence and accuracy.

    Undefined values (empty bins, no pixels at all) are None.
    """
    pixels, *rest = sums.tolist()
    means = [[value / n if n else None for value, n in zip(values, pixels, strict=True)] for values in rest]
    ece = calibration_error(sums) if any(pixels) else None
    return {"ece": ece, "pixels": [int(n) for n in pixels], "confidence": means[0], "accuracy": means[1]}
