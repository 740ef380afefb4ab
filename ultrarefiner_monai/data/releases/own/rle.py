"""Masks as COCO writes them: run lengths, compressed or not, and polygons."""

from typing import Any

import numpy as np

from ultrarefiner_monai.data.images import Size
from ultrarefiner_monai.errors import DataError

MAX_CORNERS = 20_000  # of one polygon: an outline along pixels has fewer, and each pixel is compared with each corner
MAX_PLACE = 1e6  # px; no image is as large


def draw(segmentation: Any, size: Size) -> np.ndarray:
    """The mask of a COCO annotation, bool (H, W), for an image of the size (W, H) in pixels.

    Run lengths go down the columns, the first of them background. Corners of polygons are (x, y) with pixel corners at
    integers: a square from (1, 1) to (3, 3) covers four pixels (Lin et al. 2014, and COCO's data format).

    Raises:
        DataError: neither, or of another size.
    """
    if isinstance(segmentation, dict):
        return _runs(segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError(f"segmentation: expected polygons or run lengths, found {_named(segmentation)}")
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    return np.logical_or.reduce([_polygon(corners, size) for corners in polygons])


def decoded(text: str) -> list[int]:
    """Run lengths of COCO's compressed form: 5 bits a character from "0" on, a sixth for "more follows".

    The last character's highest bit is the sign; from the third on the numbers are differences to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise DataError("segmentation: run lengths hold characters that COCO's compression does not")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError("segmentation: run lengths end in the middle of a number")
    return runs


def _runs(segmentation: dict[str, Any], size: Size) -> np.ndarray:
    width, height = size
    told, counts = segmentation.get("size"), segmentation.get("counts")
    if told != [height, width]:
        raise DataError(f"segmentation: size {told}, the image has [{height}, {width}] (height, width)")
    runs: list[int] = decoded(counts) if isinstance(counts, str) else counts if isinstance(counts, list) else []
    sound = all(type(run) is int and 0 <= run <= width * height for run in runs)
    if not sound or sum(runs) != width * height:
        raise DataError(f"segmentation: run lengths do not sum to {width * height} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _polygon(corners: Any, size: Size) -> np.ndarray:
    from skimage.draw import polygon

    numbers = isinstance(corners, list) and all(
        type(value) in (int, float) and abs(value) < MAX_PLACE for value in corners
    )
    if not numbers or len(corners) % 2 or not 6 <= len(corners) <= 2 * MAX_CORNERS:
        raise DataError(f"segmentation: expected polygons [x, y, x, y, x, y, ...], found {_named(corners)}")
    width, height = size
    points = np.array(corners, dtype=np.float64).reshape(-1, 2) - 0.5  # pixel centres at integers, as skimage has them
    mask = np.zeros((height, width), dtype=bool)
    mask[polygon(points[:, 1], points[:, 0], mask.shape)] = True
    return mask


def _named(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, list | dict | str) else repr(value)
