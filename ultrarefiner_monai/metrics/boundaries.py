"""Distances between the outlines of two masks, and the overlap of the bands along them."""

import math

import numpy as np
from scipy.ndimage import binary_erosion, minimum_filter
from scipy.spatial import KDTree

from ultrarefiner_monai.metrics.overlap import NAN

# Pixels; what MedSAM's own evaluation allows on images (evaluation/compute_metrics.py of bowang-lab/MedSAM). Nikolov et
# al. 2021 (J Med Internet Res 23:e26151), who introduced the measure, took it from the scatter between observers.
NSD_TOLERANCE = 2.0
PERCENTILE = 95  # of the Hausdorff distance: a few stray pixels must not decide it (Huttenlocher et al. 1993)
BAND_SHARE = 0.02  # of the image's diagonal, the width of the band (Cheng et al. 2021, "Boundary IoU", CVPR)
Spacing = tuple[float, float] | tuple[float, float, float]


def outline_metrics(pred: np.ndarray, target: np.ndarray, spacing: Spacing | None = None) -> dict[str, float]:
    """`hd95`, `assd` and `nsd` of two bool masks (H, W) or (D, H, W), from the pixels of their outlines.

    An outline is made of the mask's pixels that have a neighbour along an axis outside the mask or the image. Distances
    are Euclidean, between pixel centres, from each outline pixel of either mask to the nearest of the other:

    - `hd95`: the larger of the two directed 95th percentiles (linear interpolation); NaN where a mask is blank.
    - `assd`: mean of all distances, both directions pooled; NaN where a mask is blank.
    - `nsd`: share of all distances within 2 px; 0 where one mask is blank, NaN where both are.

    Args:
        pred: predicted mask.
        target: true mask.
        spacing: (row, column) or (slice, row, column) mm per pixel; `hd95` and `assd` are in mm then, else in pixels. The
            tolerance of `nsd` stays 2 px, where a pixel that is not square counts as the square of the same area, a voxel as
            the cube of its volume.
    """
    side = math.sqrt if pred.ndim == 2 else math.cbrt
    pixel = side(math.prod(spacing)) if spacing else 1.0  # mm
    scale = np.divide(spacing, pixel) if spacing else 1.0  # exactly 1 for square pixels: no rounding at the tolerance
    first, second = (np.argwhere(mask & ~binary_erosion(mask)) * scale for mask in (pred, target))
    if not len(first) or not len(second):
        return {"hd95": NAN, "assd": NAN, "nsd": 0.0 if len(first) or len(second) else NAN}
    forth, back = KDTree(second).query(first)[0], KDTree(first).query(second)[0]
    both = np.concatenate([forth, back])
    return {
        "hd95": pixel * float(max(np.percentile(forth, PERCENTILE), np.percentile(back, PERCENTILE))),
        "assd": pixel * float(both.mean()),
        "nsd": float((both <= NSD_TOLERANCE).mean()),
    }


def band_width(shape: tuple[int, int]) -> int:
    """Width in pixels of the band along an outline in an image of `shape` (H, W): 2 % of its diagonal, at least 1."""
    return max(1, round(BAND_SHARE * math.hypot(*shape)))


def boundary_iou(pred: np.ndarray, target: np.ndarray, width: int) -> float:
    """IoU of the bands of `width` pixels inside two bool masks' outlines; NaN where both are blank.

    As in the authors' code, a band holds the mask's pixels that `width` erosions with a 3 x 3 square remove, and the
    outside of the image counts as background.
    """
    bands = [mask & ~minimum_filter(mask, size=2 * width + 1, mode="constant", cval=0) for mask in (pred, target)]
    union = np.count_nonzero(bands[0] | bands[1])
    return np.count_nonzero(bands[0] & bands[1]) / union if union else NAN
