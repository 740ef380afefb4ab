"""A predicted mask in numbers: area, diameters, parts, confidence."""

import math
from typing import Any

import numpy as np

from ultrarefiner_monai.deploy.images.image_file import Spacing
from ultrarefiner_monai.metrics.classes import image_class
from ultrarefiner_monai.models.ensemble import Consensus


def measure(mask: np.ndarray, consensus: Consensus, spacing: Spacing | None, organs: bool = False) -> dict[str, Any]:
    """What is known of a mask bool (H, W) and the probability it was cut from; NaN where undefined.

    Returns:
        `area_px` and `area_mm2` of all parts; `components`: parts, pixels that touch at a corner belonging
        together; of the largest part `diameter_px` and `diameter_mm`, the longest one, and `perpendicular_px` and
        `perpendicular_mm`, see `diameters`; `mean_probability` over the mask; `max_probability` over the image;
        `sam_predicted_iou`: see `Consensus`; `class` and `class_probability` where classes are told apart that are no `organs`.
        Without a spacing, values in millimetres are NaN; in a blank mask the diameters and the mean probability are.
    """
    largest, count = parts_of(mask)
    in_mm = (math.nan, math.nan) if spacing is None else diameters(largest, spacing)
    in_px = diameters(largest)
    return {
        "area_px": int(mask.sum()),
        "area_mm2": math.nan if spacing is None else int(mask.sum()) * spacing[0] * spacing[1],
        "components": count,
        "diameter_px": in_px[0],
        "perpendicular_px": in_px[1],
        "diameter_mm": in_mm[0],
        "perpendicular_mm": in_mm[1],
        "mean_probability": float(consensus.probability[mask].mean()) if count else math.nan,
        "max_probability": float(consensus.probability.max()),
        "sam_predicted_iou": consensus.quality,
        **({} if organs else image_class(consensus.probability, consensus.classes)),
    }


def parts_of(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The largest part of a mask bool (H, W), and how many there are; pixels that touch at a corner belong together."""
    from skimage.measure import label

    parts, count = label(mask, connectivity=2, return_num=True)
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax() if count else mask, count


def diameters(mask: np.ndarray, spacing: Spacing = (1.0, 1.0)) -> tuple[float, float]:
    """Longest diameter of a mask bool (H, W), and its extent at right angles to that one; NaN, NaN of a blank one.

    The longest diameter is the maximal Feret diameter (Feret, "La grosseur des grains", 1930): the longest distance
    between two points of the outline, which runs half a pixel outside of the pixels' centres. scikit-image's
    `feret_diameter_max` has the same outline for a convex mask, up to a pixel. Both are in the units of `spacing`,
    (down a column, along a row).
    """
    lines = diameter_lines(mask, spacing)
    longest, across = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1) if len(lines) else (math.nan, math.nan)
    return float(longest), float(across)


def diameter_lines(mask: np.ndarray, spacing: Spacing = (1.0, 1.0)) -> np.ndarray:
    """Both `diameters` of a mask bool (H, W) as lines to draw, (2, 2, 2): ends as (row, column); (0, 2, 2) of a blank one.

    In the units of `spacing` from the first pixel's centre. The second runs between the mask's two tangents along the first,
    where the points that they touch lie on average.
    """
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform
    from skimage.measure import find_contours

    if not mask.any():
        return np.empty((0, 2, 2))
    outline = (np.vstack(find_contours(np.pad(mask, 1).astype(float), 0.5)) - 1) * spacing
    hull = outline[ConvexHull(outline).vertices]
    distances = squareform(pdist(hull))
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    along = (hull[second] - hull[first]) / distances[first, second]
    across = np.array([-along[1], along[0]])
    heights = hull @ across
    ends = np.array([heights.min(), heights.max()])
    middle = np.mean([(hull @ along)[np.isclose(heights, end)].mean() for end in ends])
    return np.stack([hull[[first, second]], middle * along + ends[:, None] * across])
