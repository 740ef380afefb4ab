"""Invented patients of the phantom: anatomy and lesions drawn from ranges, as `b_mode` renders them.

The ranges were set by looking at the images beside BUS-BRA, BUSI and BUS-UCLM and by comparing grey values, speckle,
contrast, border and area of the lesions (docs/reference/phantom.md has the figures).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from ultrarefiner_monai.data.phantom.b_mode import Breast, Lesion

Range = tuple[float, float]  # least and greatest value, drawn uniformly

# Depth of the lower border of skin, fat and gland, as a share of the image's height: the field of view is 3-5 cm deep.
_BORDERS: tuple[Range, ...] = ((0.03, 0.06), (0.15, 0.36), (0.55, 0.85))

# Mean echo level (dB) of skin, fat, gland and muscle: fat and muscle a little darker than gland, all brighter than lesions.
_LEVELS: tuple[Range, ...] = ((-2.0, 3.0), (-6.0, -2.0), (-5.0, -1.0), (-10.0, -5.0))

_DENSITY: Range = (2.0, 5.0)  # patchiness of the gland (dB): fatty to heterogeneously dense
_STRANDS: Range = (2.5, 9.0)  # reflection of connective tissue against speckle: the bright tail of the grey values
_TILT: Range = (2.0, 9.0)  # wandering of strands (px)
_LOSS: Range = (0.0, 14.0)  # echo lost towards the bottom (dB): dark below in half of the real images
_STREAKS: Range = (0.5, 2.5)  # difference between beams (dB)
_CONTACT: tuple[float, Range, Range] = (0.35, (0.05, 0.2), (3.0, 14.0))  # share of patients, width (share), depth (dB)
_SPAN: Range = (48.0, 66.0)  # dynamic range (dB): the usual settings of a scanner
_GAIN: Range = (0.40, 0.52)  # where white lies above the gland, as a share of the dynamic range
_GAMMA: Range = (1.1, 1.8)  # grey map: real images have a dark middle and a bright tail


@dataclass(frozen=True)
class LesionRanges:
    """What a kind of lesion looks like: each value is drawn uniformly from its range; see `b_mode.Lesion` for the units.

    Attributes:
        width: horizontal half axis, as a share of the image's width.
        aspect: vertical over horizontal half axis.
        tilt: standard deviation of the tilt (rad).
        lobes: greatest amplitude of the outline's swing of order 2, divided by order / 2 in the higher ones.
        orders: orders of the swings.
        spikes: number of spicules.
        level, texture, edge, attenuation, halo, wall: as in `Lesion`.
    """

    width: Range
    aspect: Range
    tilt: float
    lobes: float
    orders: tuple[int, ...]
    spikes: tuple[int, int]
    level: Range
    texture: Range
    edge: Range
    attenuation: Range
    halo: Range
    wall: Range


# Wording of BI-RADS: shape, orientation, margin, echo pattern, posterior features.
CYST = LesionRanges(  # oval, parallel, circumscribed, anechoic, enhancement
    width=(0.11, 0.28), aspect=(0.5, 0.95), tilt=0.2, lobes=0.08, orders=(2, 3), spikes=(0, 0),
    level=(-26, -18), texture=(1.0, 3.0), edge=(0.8, 1.8), attenuation=(-0.25, -0.08), halo=(0, 3), wall=(2, 8),
)  # fmt: skip
FIBROADENOMA = LesionRanges(  # oval or gently lobulated, parallel, circumscribed, hypoechoic, hardly any posterior feature
    width=(0.12, 0.3), aspect=(0.4, 0.75), tilt=0.2, lobes=0.12, orders=(2, 3, 4), spikes=(0, 0),
    level=(-17, -12), texture=(1.5, 3.5), edge=(1.0, 2.5), attenuation=(-0.2, 0.05), halo=(0, 4), wall=(1, 5),
)  # fmt: skip
LOBULATED = LesionRanges(  # irregular, indistinct, hypoechoic, shadow or none
    width=(0.12, 0.27), aspect=(0.55, 1.0), tilt=0.3, lobes=0.3, orders=(2, 3, 4, 5, 7), spikes=(0, 0),
    level=(-19, -13), texture=(2.0, 4.5), edge=(1.8, 4.5), attenuation=(-0.06, 0.15), halo=(1, 6), wall=(0, 2),
)  # fmt: skip
SPICULATED = LesionRanges(  # irregular, taller than wide, spiculated, echogenic rim, shadow
    width=(0.11, 0.24), aspect=(0.7, 1.3), tilt=0.3, lobes=0.25, orders=(2, 3, 4, 5, 7), spikes=(5, 9),
    level=(-21, -14), texture=(1.5, 4.0), edge=(1.8, 4.5), attenuation=(0.05, 0.28), halo=(2, 7), wall=(0, 2),
)  # fmt: skip
KINDS = {"benign": (CYST, FIBROADENOMA, FIBROADENOMA), "malignant": (LOBULATED, SPICULATED)}  # equally likely

_SPIKE_HEIGHT: Range = (0.12, 0.5)  # of a spicule, relative to the radius
_DEPTH: Range = (0.12, 0.5)  # row of a lesion's centre as a share of the height; real ones: a tenth to a half
_TALLEST = 0.3  # vertical half axis of a lesion as a share of the height, so that tissue stays above and below
_NUMBERS = (0.80, 0.14, 0.06)  # how often a patient has one, two, three lesions
MOST_LESIONS = len(_NUMBERS)


def draw_breast(rng: Generator, kind: str, size: tuple[int, int], lesions: int = 1) -> Breast:
    """Draw a patient: the anatomy and the lesions that all the views show.

    Args:
        rng: source of all chance.
        kind: "benign", "malignant" or "normal".
        size: least and greatest side of the images (px), which are never square.
        lesions: most lesions, at most `MOST_LESIONS`.
    """
    height, width = (int(side) for side in rng.integers(size[0], size[1], 2))
    shape = (height, width + (height == width))
    contact, width_range, dip_range = _CONTACT
    span = rng.uniform(*_SPAN)
    return Breast(
        kind=kind,
        shape=shape,
        borders=tuple(rng.uniform(*limits) for limits in _BORDERS),
        levels=tuple(rng.uniform(*limits) for limits in _LEVELS),
        density=rng.uniform(*_DENSITY),
        strands=rng.uniform(*_STRANDS),
        tilt=rng.uniform(*_TILT),
        loss=rng.uniform(*_LOSS),
        streaks=rng.uniform(*_STREAKS),
        window=(rng.random(), rng.uniform(*width_range), rng.uniform(*dip_range) * (rng.random() < contact)),
        gain=span * rng.uniform(*_GAIN),
        span=span,
        gamma=rng.uniform(*_GAMMA),
        lesions=_draw_lesions(rng, kind, shape, lesions),
    )


def draw_view(rng: Generator, breast: Breast) -> Breast:
    """The same patient with the probe moved: lesions shift, turn and change in section, layers thicken or thin."""
    shift = rng.uniform(-0.06, 0.06, 2) * (0.4, 1.0)
    scale = rng.uniform(0.85, 1.1)
    return replace(
        breast,
        borders=tuple(border * rng.uniform(0.95, 1.05) for border in breast.borders),
        gain=breast.gain + rng.uniform(-3.0, 3.0),
        lesions=tuple(
            replace(
                lesion,
                centre=(lesion.centre[0] + shift[0], lesion.centre[1] + shift[1]),
                radii=(lesion.radii[0] * scale, lesion.radii[1] * scale * rng.uniform(0.9, 1.1)),
                angle=lesion.angle + rng.uniform(-0.15, 0.15),
            )
            for lesion in breast.lesions
        ),
    )


def _draw_lesions(rng: Generator, kind: str, shape: tuple[int, int], most: int) -> tuple[Lesion, ...]:
    """One to `most` lesions, side by side so that they stay apart."""
    if kind == "normal":
        return ()
    odds = np.array(_NUMBERS[:most])
    number = 1 + int(rng.choice(most, p=odds / odds.sum()))
    columns = (rng.permutation(number) + rng.uniform(0.3, 0.7, number)) / number
    room = shape[1] / (1 + 0.6 * (number - 1))
    return tuple(
        _draw_lesion(rng, KINDS[kind][rng.integers(len(KINDS[kind]))], column, room, shape[0]) for column in columns
    )


def _draw_lesion(rng: Generator, ranges: LesionRanges, column: float, room: float, height: int) -> Lesion:
    """A lesion of that kind in `room` pixels of width, below the skin."""
    width = room * rng.uniform(*ranges.width)
    radii = (min(width * rng.uniform(*ranges.aspect), _TALLEST * height), width)
    highest = _BORDERS[0][1] + 0.03 + 1.2 * radii[0] / height
    return Lesion(
        centre=(max(rng.uniform(*_DEPTH), highest), column),
        radii=radii,
        angle=rng.normal(0, ranges.tilt),
        swings=tuple((n, rng.uniform(0, 2 * ranges.lobes / n), rng.uniform(0, math.tau)) for n in ranges.orders),
        spikes=tuple(
            (rng.uniform(0, math.tau), rng.uniform(*_SPIKE_HEIGHT))
            for _ in range(rng.integers(ranges.spikes[0], ranges.spikes[1] + 1))
        ),
        level=rng.uniform(*ranges.level),
        texture=rng.uniform(*ranges.texture),
        edge=rng.uniform(*ranges.edge),
        attenuation=rng.uniform(*ranges.attenuation),
        halo=rng.uniform(*ranges.halo),
        wall=rng.uniform(*ranges.wall),
    )
