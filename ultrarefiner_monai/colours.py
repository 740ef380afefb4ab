"""The colours of all figures, which people who cannot tell red from green tell apart as well."""

from collections.abc import Sequence

import numpy as np

# Okabe & Ito 2008, "Color Universal Design": told apart with every common form of colour blindness.
ORANGE, SKY_BLUE, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"

FIRST, MIDDLE, LAST, TRUTH = ORANGE, PURPLE, SKY_BLUE, YELLOW  # outlines on an image, of outputs by their position
HIT, FALSE_ALARM, MISS = GREEN, VERMILLION, BLUE  # areas of a map of errors
# Boxes that a network is asked with, and its points, which are told apart by their form, too.
WHITE, INSIDE, OUTSIDE = "#FFFFFF", GREEN, VERMILLION


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour as above."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def of_case(outputs: Sequence[str]) -> dict[str, str]:
    """The colours in the figures of a case, by what they show: the outline of each output and of the truth, and errors."""
    outlines = dict.fromkeys(outputs, MIDDLE) | {outputs[-1]: LAST} | {outputs[0]: FIRST}
    return outlines | {"truth": TRUTH, "hit": HIT, "false alarm": FALSE_ALARM, "miss": MISS}


def error_regions(mask: np.ndarray, truth: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """The map of errors of two bool masks (H, W): the pixels of each kind, and their colour."""
    return [(mask & truth, HIT), (mask & ~truth, FALSE_ALARM), (~mask & truth, MISS)]
