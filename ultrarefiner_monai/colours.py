"""The colours of all figures, which people who cannot tell red from green tell apart as well."""

import numpy as np

# Okabe & Ito 2008, "Color Universal Design": told apart with every common form of colour blindness.
ORANGE, SKY_BLUE, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"

COARSE, REFINED, TRUTH = ORANGE, SKY_BLUE, YELLOW  # outlines on an image
HIT, FALSE_ALARM, MISS = GREEN, VERMILLION, BLUE  # areas of a map of errors
OF_CASES = {
    "coarse": COARSE,
    "refined": REFINED,
    "truth": TRUTH,
    "hit": HIT,
    "false alarm": FALSE_ALARM,
    "miss": MISS,
}


def error_regions(mask: np.ndarray, truth: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """The map of errors of two bool masks (H, W): the pixels of each kind, and their colour."""
    return [(mask & truth, HIT), (mask & ~truth, FALSE_ALARM), (~mask & truth, MISS)]
