"""B-mode images of an invented breast: echo levels, reflectors, point-spread function, log compression.

The echo level of every point is laid out in decibels (skin, fat, gland, muscle, lesions, what lies behind them). Random
scatterers of that strength (fully developed speckle; Burckhardt 1978, Wagner et al. 1983) and smooth reflectors (strands
of connective tissue, fascia, walls of lesions) pass through a point-spread function, and the envelope is log-compressed
as a scanner does.

Units: pixels, decibels (20 log10 of amplitude); arrays are (H, W), rows running from the skin into depth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

# Standard deviation of the point-spread function (px): wider than deep, sharpest in the focus. Gives the half widths of
# the speckle's autocorrelation in BUS-BRA, BUSI and BUS-UCLM, all brought to 256 pixels: 1.5 px down, 5 px across.
_AXIAL, _LATERAL_FOCUS, _LATERAL_FAR = 0.65, 1.2, 2.4

_LOOKS = 3  # independent speckle patterns averaged: a scanner's spatial compounding
_NOISE = 10 ** (-34 / 20)  # amplitude of the electronic noise, relative to the gland's echo


@dataclass(frozen=True)
class Lesion:
    """One lesion: an ellipse whose radius swings with the angle.

    Attributes:
        centre: row and column as shares of the image.
        radii: vertical and horizontal half axis (px).
        angle: tilt (rad).
        swings: `(order, relative amplitude, phase)` of the cosines in the outline.
        spikes: `(angle, relative height)` of narrow spicules.
        level: echo level inside, relative to the tissue (dB, negative).
        texture: deviation of the level inside (dB).
        edge: width of the transition (px), sharp for benign.
        attenuation: extra loss along the beam (dB a pixel): positive casts a shadow, negative an enhancement.
        halo: brightness of the rim (dB).
        wall: reflection of the outline where it lies square to the beam, relative to the speckle's amplitude.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    swings: tuple[tuple[int, float, float], ...]
    spikes: tuple[tuple[float, float], ...]
    level: float
    texture: float
    edge: float
    attenuation: float
    halo: float
    wall: float


@dataclass(frozen=True)
class Breast:
    """What the views of one patient share.

    Attributes:
        kind: "benign", "malignant" or "normal".
        shape: height and width of the images (px).
        borders: depth of the lower border of skin, fat and gland, as shares of the height.
        levels: mean echo level of skin, fat, gland and muscle (dB).
        density: patchiness of the gland (dB).
        strands: reflection of strands and fascia, relative to the speckle's amplitude.
        tilt: how far strands wander up and down (px).
        loss: echo lost between top and bottom after the scanner's time-gain compensation (dB).
        streaks: deviation of the loss between beams at the bottom (dB).
        window: dark columns of poor contact: `(centre, width)` as shares of the image's width, and depth (dB).
        gain: level (dB) that is shown white.
        span: displayed dynamic range (dB).
        gamma: exponent of the grey map that follows the log compression.
        lesions: none for a normal breast.
    """

    kind: str
    shape: tuple[int, int]
    borders: tuple[float, ...]
    levels: tuple[float, ...]
    density: float
    strands: float
    tilt: float
    loss: float
    streaks: float
    window: tuple[float, float, float]
    gain: float
    span: float
    gamma: float
    lesions: tuple[Lesion, ...]


def render(rng: Generator, breast: Breast) -> tuple[np.ndarray, np.ndarray]:
    """One B-mode image: grey values (H, W) uint8 and the lesion mask (H, W) bool."""
    level, mirror = _tissue(rng, breast)
    mask = np.zeros(breast.shape, bool)
    for lesion in breast.lesions:
        inside = _signed_outline(lesion, breast.shape)
        mask |= inside > 0
        level, mirror = _insert(rng, (level, mirror), lesion, inside)
    level -= _beam_loss(rng, breast)
    shown = (1 + (20 * np.log10(_envelope(rng, level, mirror)) - breast.gain) / breast.span).clip(0, 1)
    return (255 * shown**breast.gamma).round().astype(np.uint8), mask


def _signed_outline(lesion: Lesion, shape: tuple[int, int]) -> np.ndarray:
    """About the distance (px) of each pixel to the outline, positive inside."""
    rows, columns = np.indices(shape, dtype=float)
    down, right = rows - lesion.centre[0] * shape[0], columns - lesion.centre[1] * shape[1]
    sine, cosine = np.sin(lesion.angle), np.cos(lesion.angle)
    v = (down * cosine - right * sine) / lesion.radii[0]
    u = (right * cosine + down * sine) / lesion.radii[1]
    around = np.arctan2(v, u)
    outline = np.ones(shape)
    for order, amplitude, phase in lesion.swings:
        outline += amplitude * np.cos(order * around + phase)
    for direction, height in lesion.spikes:
        outline += height * np.exp(18 * (np.cos(around - direction) - 1))
    return (outline - np.hypot(u, v)) * min(lesion.radii)


def _insert(
    rng: Generator, tissue: tuple[np.ndarray, np.ndarray], lesion: Lesion, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put a lesion and what lies behind it into the echo level (dB) and the reflection of the tissue."""
    level, mirror = tissue
    share = _step((inside + lesion.edge * _noise(rng, level.shape, 2, 3)) / lesion.edge)  # drawn smooth, echoing ragged
    interior = lesion.level + lesion.texture * (_noise(rng, level.shape, 3, 6) + 0.7 * _noise(rng, level.shape, 8, 12))
    # Tissue structure does not continue through a lesion: its own level replaces the layers' detail.
    ground = gaussian_filter(level, 8).clip(max=-2)
    rim = lesion.halo * np.exp(-(((inside + 3) / 3) ** 2))
    path = gaussian_filter1d(np.cumsum(share, axis=0), 0.2 * lesion.radii[1] + 1, axis=1)
    behind = np.clip(lesion.attenuation * path, -11, 18)
    square = np.gradient(inside, axis=0) ** 2
    wall = lesion.wall * (square / (square + 0.15)) ** 2 * np.exp(-((inside / 1.2) ** 2))
    level = (1 - share) * (level + rim - behind) + share * (ground + interior)
    return level, (1 - share) * mirror + wall


def _tissue(rng: Generator, breast: Breast) -> tuple[np.ndarray, np.ndarray]:
    """Echo level (dB) of the layers without lesions, and the reflection of their strands and borders."""
    height, _ = shape = breast.shape
    wave = _wave(rng, breast)
    bend = breast.tilt * _noise(rng, shape, 25, 32)
    lobules = _along(0.6 * wave + bend, _noise(rng, shape, 7, 17))
    cords = breast.strands * _strands(rng, wave + bend, 1.4, 12)
    septa = breast.strands * np.exp(-((lobules / 0.1) ** 2)) * (0.5 + 0.6 * _noise(rng, shape, 6, 6)).clip(0)
    layers = (  # deviation of the level (dB) and reflection, of fat, gland and muscle
        (1.5 * _noise(rng, shape, 4, 8), septa + 0.5 * cords),
        (_along(wave + bend, breast.density * _noise(rng, shape, 2.5, 7)) + 3.0 * _noise(rng, shape, 12, 16), cords),
        (_along(wave, 2.0 * _noise(rng, shape, 3, 28)), 0.8 * breast.strands * _strands(rng, wave, 1.2, 24)),
    )
    depth = np.arange(height)[:, None] + 0.015 * height * _noise(rng, shape, 12, 25)
    level = np.full(shape, breast.levels[0])
    mirror = breast.strands * np.exp(-((depth / 1.5) ** 2))  # the surface of the skin
    for order, (border, mean, (texture, reflection)) in enumerate(
        zip(breast.borders, breast.levels[1:], layers, strict=True)
    ):
        below = depth - border * height - wave * (1.0 if order else 0.15)
        share = _step(below / (3.0 if order else 1.5))
        level += share * (mean + texture - level)
        mirror += share * (reflection - mirror)
        # Fascia shine where they lie square to the beam.
        fascia = (0.5 + 0.7 * _noise(rng, shape, 3, 20)).clip(0, 1.5)
        mirror += breast.strands * fascia * np.exp(-((below / 1.2) ** 2))
    return level + 2.0 * _noise(rng, shape, 20, 25), mirror


def _strands(rng: Generator, bend: np.ndarray, down: float, across: float) -> np.ndarray:
    """Thin broken lines (H, W) of height about 1, `down` thick and `across` long (px), bent by `bend` (px)."""
    fields = [_noise(rng, bend.shape, down * scale, across * scale) for scale in (0.4, 0.7, 1)]
    crests = np.sum([(field - 0.9).clip(0) for field in fields], axis=0)
    return _along(bend, crests) * (0.5 + 0.7 * _noise(rng, bend.shape, 9, 14)).clip(0)


def _envelope(rng: Generator, level: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Echo amplitude: scatterers and reflectors of the given level (dB) through the point-spread function, looks averaged."""
    strength = 10 ** (level / 20)
    unit = (4 * np.pi * _AXIAL * (_LATERAL_FOCUS * _LATERAL_FAR) ** 0.5) ** 0.5  # the spread speckle's deviation is 1
    total = np.zeros_like(level)
    for _ in range(_LOOKS):
        scatterers = rng.standard_normal(level.shape) + 1j * rng.standard_normal(level.shape)
        total += np.abs(_spread((unit * scatterers + mirror) * strength))
    noise = _NOISE * np.hypot(rng.standard_normal(level.shape), rng.standard_normal(level.shape))
    return total / _LOOKS + noise


def _spread(echoes: np.ndarray) -> np.ndarray:
    """Echoes (H, W) through the point-spread function, which widens away from the focus."""
    depth = np.abs(np.linspace(-0.8, 1.2, len(echoes)))[:, None].clip(0, 1)  # 0 in the focus
    column = gaussian_filter1d(echoes, _AXIAL, axis=0)
    near, far = (gaussian_filter1d(column, width, axis=1, truncate=3) for width in (_LATERAL_FOCUS, _LATERAL_FAR))
    return near + depth * (far - near)


def _beam_loss(rng: Generator, breast: Breast) -> np.ndarray:
    """Echo lost (dB, (H, W)) with depth and, deepening along the beam, between beams and under poor contact."""
    depth = np.linspace(0, 1, breast.shape[0])[:, None]
    centre, width, dip = breast.window
    columns = (np.linspace(0, 1, breast.shape[1])[None] - centre) / width
    streaks = breast.streaks * _noise(rng, (1, breast.shape[1]), 0, 5)
    return breast.loss * depth**1.5 + (dip * np.exp(-(columns**4)) + streaks) * depth**0.5


def _wave(rng: Generator, breast: Breast) -> np.ndarray:
    """Undulation (px) that the layers share, (H, W): a few slow sines across."""
    column = np.arange(breast.shape[1])[None]
    waves = np.zeros(breast.shape)
    for period in (2.2, 1.1, 0.6):
        turns = column / (period * breast.shape[1]) + rng.random()
        waves += period * rng.uniform(0.2, 1.0) * np.sin(2 * np.pi * turns)
    return 0.022 * breast.shape[0] * waves


def _along(bend: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Bend a level texture along an undulation (px), both (H, W)."""
    rows, columns = np.indices(texture.shape, dtype=float)
    return map_coordinates(texture, (rows - bend, columns), order=1, mode="reflect")


def _noise(rng: Generator, shape: tuple[int, int], down: float, across: float) -> np.ndarray:
    """Smooth random field (H, W) of mean 0 and deviation 1, correlated over `down` by `across` pixels."""
    field = gaussian_filter(rng.standard_normal(shape), (down, across), truncate=2.5)
    return (field - field.mean()) / field.std()


def _step(value: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1 around 0."""
    return 0.5 * (1 + np.tanh(value))
