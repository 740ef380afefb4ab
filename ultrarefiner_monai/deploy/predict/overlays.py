"""A prediction drawn on its image: masks, diameters, a scale bar, and what was left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ultrarefiner_monai.colours import GREEN, LAST, ORANGE, PURPLE, VERMILLION, rgb
from ultrarefiner_monai.deploy.images.image_file import Spacing
from ultrarefiner_monai.deploy.predict.measures import diameter_lines, parts_of

# Of a lesion, as in panels, and of further classes.
OUTLINES = tuple(map(rgb, (LAST, VERMILLION, ORANGE, GREEN, PURPLE)))
OUTLINE_SHARE = 400  # the outline is one pixel wide for each 400 pixels of the longer side
FILL = 0.3  # share of the colour inside of an outline: grey structures still show
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
SMALLEST = 100  # pixels of the shorter side: on less, lines and letters would hide the lesion
FONT_SHARE, SMALLEST_FONT = 45, 11  # pixels of the longer side for each of a letter's height, and the least of these
BARS = (100, 50, 20, 10, 5, 2, 1)  # mm
BAR_SHARE = 3  # a scale bar takes up to a third of the width


def overlay(grey: np.ndarray, mask: np.ndarray, left_out: np.ndarray, spacing: Spacing | None) -> np.ndarray:
    """The image with what was found, uint8 (H, W, 3).

    Masks are filled with a transparent colour within a line around them. Of the largest part the longest diameter and the
    extent at right angles are drawn (see `measures.diameters`) and told, in mm where these are known; a scale bar then lies
    at the lower left. Parts left out have a dashed line in black and white and are counted. Images with a side below
    `SMALLEST` pixels have masks and outlines alone.

    Args:
        grey: (H, W) in [0, 1].
        mask: (H, W), 1 where there is lesion, or the classes' numbers, whose colours differ.
        left_out: (H, W) bool, parts that the mask is without, see `masks.without_islands`.
        spacing: millimetres from pixel to pixel, (down a column, along a row); None where they are not known.
    """
    from PIL import Image, ImageDraw

    image = np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)
    width = max(1, round(max(grey.shape) / OUTLINE_SHARE))
    for number in range(1, int(mask.max()) + 1):
        colour = OUTLINES[(number - 1) % len(OUTLINES)]
        inside = mask == number
        image[inside] = np.rint((1 - FILL) * image[inside] + FILL * np.array(colour))
        image[_around(inside, width) & (mask == 0)] = colour
    rows, columns = np.nonzero(_around(left_out, width) & (mask == 0))
    image[rows, columns] = np.where(((rows + columns) // (3 * width) % 2)[:, None], WHITE, BLACK)
    if min(grey.shape) < SMALLEST:
        return image
    largest, _ = parts_of(mask > 0)
    lines = diameter_lines(largest, spacing or (1.0, 1.0))
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    points = [[(column, row) for row, column in ends] for ends in lines / (spacing or 1.0)]
    for shade, thickness in ((BLACK, width + 2), (WHITE, width)):
        for ends in points:
            draw.line(ends, fill=shade, width=thickness)
    _write(draw, grey.shape, _captions(lines, left_out, spacing), spacing)
    return np.asarray(drawn)


def bar_of(width: int, spacing: Spacing) -> tuple[int, int]:
    """Length of the scale bar of an image `width` pixels wide, in mm and in pixels; 0, 0 where a third of it is below 1 mm."""
    fitting = [length for length in BARS if length <= width * spacing[1] / BAR_SHARE]
    return (fitting[0], round(fitting[0] / spacing[1])) if fitting else (0, 0)


def _around(region: np.ndarray, width: int) -> np.ndarray:
    """The line of `width` pixels around a region, outside of it."""
    from scipy.ndimage import binary_dilation

    return binary_dilation(region, iterations=width) & ~region


def _captions(lines: np.ndarray, left_out: np.ndarray, spacing: Spacing | None) -> list[str]:
    captions = []
    if len(lines):
        longest, across = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1)
        captions.append(f"{longest:.0f} x {across:.0f} px" if spacing is None else f"{longest:.1f} x {across:.1f} mm")
    if islands := parts_of(left_out)[1]:
        captions.append(f"{islands} part{'s' * (islands > 1)} left out (dashed)")
    return captions


def _write(draw: Any, shape: Sequence[int], captions: Sequence[str], spacing: Spacing | None) -> None:
    """Put the scale bar at the lower left and the captions above it, without those that are too wide."""
    from PIL import ImageFont

    height, width = shape
    size = max(SMALLEST_FONT, round(max(shape) / FONT_SHARE))
    font, edge = ImageFont.load_default(size), size // 2
    letters: Any = {"font": font, "fill": WHITE, "stroke_width": max(1, size // 10), "stroke_fill": BLACK}
    millimetres, pixels = bar_of(width, spacing) if spacing else (0, 0)
    bottom = height - edge
    if pixels:
        top = bottom - size // 3
        draw.rectangle((edge - 1, top - 1, edge + pixels, bottom), fill=BLACK)
        draw.rectangle((edge, top, edge + pixels - 1, bottom - 1), fill=WHITE)
        draw.text((edge + pixels + edge, bottom), f"{millimetres} mm", anchor="ls", **letters)
        bottom = top - edge
    for caption in reversed(captions):
        if draw.textlength(caption, font=font) <= width - 2 * edge:
            draw.text((edge, bottom), caption, anchor="ls", **letters)
            bottom -= round(1.3 * size)
