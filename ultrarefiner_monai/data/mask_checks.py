"""Masks that a reader would take for something else than they were drawn as; what `build` counts and `verify` refuses."""

from functools import reduce

import numpy as np

from ultrarefiner_monai.data.faults import Problem
from ultrarefiner_monai.data.images import lesion
from ultrarefiner_monai.errors import shown

# Share of a frame's border that is lesion: 0.03 at most in 1 865 masks of BUS-BRA, BUSI and BUS-UCLM, whose lesions cover up
# to 0.58 of the frame; an inverted mask has 1 less that.
INVERTED_BORDER = 0.5
ALPHA = "lesion is in the alpha channel, which is not read, and the colour is the same everywhere"
INVERTED = "lesion and background are exchanged: most of the frame's border is lesion"
FULL = "lesion covers the whole frame"
# What writes masks that are read as they are meant; `own/made_masks.py` has the rules.
REMEDIES = {
    "mask_values": "JPEG or resampled masks: `manifests build --mask half`, numbered classes: `--mask nonzero`",
    ALPHA: "`manifests build --mask alpha`",
    INVERTED: "`manifests build --mask inverted`",
    FULL: "`manifests build --mask inverted` where blank masks are meant, else draw them again or leave them out",
}


def mask_problem(planes: np.ndarray, alpha: np.ndarray | None) -> Problem | None:
    """What is wrong with the pixels of a mask, or None.

    Args:
        planes: stored values (H, W, channels) without alpha, as `images.to_planes` gives them.
        alpha: opacity (H, W), where the file has some.
    """
    return _value_problem(planes) or _meaning_problem(planes, alpha)


def remedy(problem: Problem) -> str:
    """The next step for a problem of a mask."""
    return REMEDIES[problem.message if problem.kind == "mask_meaning" else problem.kind]


def _value_problem(planes: np.ndarray) -> Problem | None:
    """A mask holds one colour beside black; anything else would be read by the half-way rule of `images.read_mask`."""
    lit = planes[reduce(np.bitwise_or, np.moveaxis(planes, 2, 0)) > 0]  # many times faster than any(axis=2)
    if (lit == lit[:1]).all():
        return None
    colours = np.unique(lit, axis=0).tolist()
    values = shown((c[0] if len(c) == 1 else tuple(c) for c in colours), 4)
    return Problem("mask_values", f"mask values: expected one beside 0, found {len(colours)}: {values}")


def _meaning_problem(planes: np.ndarray, alpha: np.ndarray | None) -> Problem | None:
    if alpha is not None and (planes == planes[0, 0]).all() and (alpha != alpha[0, 0]).any():
        return Problem("mask_meaning", ALPHA)
    mask = lesion(planes)
    if mask.all():
        return Problem("mask_meaning", FULL)
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return Problem("mask_meaning", INVERTED) if border.mean() > INVERTED_BORDER else None
