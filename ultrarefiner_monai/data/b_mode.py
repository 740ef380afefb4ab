"""B-mode pictures of an invented breast: echo levels, scatterers, point-spread function, log compression.

The echo level of every point is laid out in decibels (skin, fat, gland, muscle, lesions, what lies behind them), random
scatterers of that strength pass through a point-spread function, and the envelope is log-compressed as a scanner does
(fully developed speckle; Burckhardt 1978, Wagner et al. 1983).

Units: pixels, decibels (20 log10 of amplitude); arrays are (H, W), rows running from the skin into depth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import convolve1d, gaussian_filter, gaussian_filter1d, map_coordinates

# Point-spread function (px): axial and lateral standard deviation, carrier wavelength: speckles of 2-5 px.
_AXIAL, _LATERAL_FOCUS, _LATERAL_FAR, _WAVELENGTH = 0.9, 1.1, 2.2, 2.6

_LOOKS = 4  # independent speckle patterns averaged: a scanner's spatial compounding
_NOISE = 10 ** (-40 / 20)  # amplitude of the electronic noise, relative to the gland's echo


@dataclass(frozen=True)
class Lesion:
    """One lesion: an ellipse whose radius swings with the angle.

    Attributes:
        centre: row and column as shares of the picture.
        radii: vertical and horizontal half axis (px).
        angle: tilt (rad).
        swings: ``(order, relative amplitude, phase)`` of the cosines in the outline.
        spikes: ``(angle, relative height)`` of narrow spicules.
        level: echo level inside, relative to the tissue (dB, negative).
        edge: width of the transition (px), sharp for benign.
        attenuation: extra loss along the beam (dB a pixel): positive casts a shadow, negative an enhancement.
        halo: brightness of the rim (dB).
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    swings: tuple[tuple[int, float, float], ...]
    spikes: tuple[tuple[float, float], ...]
    level: float
    edge: float
    attenuation: float
    halo: float


@dataclass(frozen=True)
class Breast:
    """What the views of one patient share.

    Attributes:
        kind: "benign", "malignant" or "normal".
        shape: height and width of the pictures (px).
        borders: depth of the lower border of skin, fat and gland, as shares of the height.
        levels: mean echo level of skin, fat, gland and muscle (dB).
        density: strength of the gland's streaks (dB).
        septa: strength of the bright septa in the fat (dB).
        loss: echo lost between top and bottom after the scanner's time-gain compensation (dB).
        window: dark columns of poor contact: ``(centre, width)`` as shares of the picture's width, and depth (dB).
        gain: level (dB) that is shown white.
        span: displayed dynamic range (dB).
        lesions: none for a normal breast.
    """

    kind: str
    shape: tuple[int, int]
    borders: tuple[float, ...]
    levels: tuple[float, ...]
    density: float
    septa: float
    loss: float
    window: tuple[float, float, float]
    gain: float
    span: float
    lesions: tuple[Lesion, ...]


def render(rng: Generator, breast: Breast) -> tuple[np.ndarray, np.ndarray]:
    """One B-mode picture: grey values (H, W) uint8 and the lesion mask (H, W) bool."""
    level = _tissue(rng, breast)
    mask = np.zeros(breast.shape, bool)
    for lesion in breast.lesions:
        inside = _signed_outline(lesion, breast.shape)
        mask |= inside > 0
        level = _insert(rng, level, lesion, inside)
    level -= _beam_loss(breast)
    return _compress(_envelope(rng, level), breast), mask


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


def _insert(rng: Generator, level: np.ndarray, lesion: Lesion, inside: np.ndarray) -> np.ndarray:
    """Put a lesion and what lies behind it into the echo level (dB)."""
    share = _step(inside / lesion.edge)
    interior = lesion.level + 2.0 * _noise(rng, level.shape, 3, 5)
    # Tissue structure does not continue through a lesion: its own level replaces the layers' detail.
    ground = gaussian_filter(level, 8)
    rim = lesion.halo * np.exp(-(((inside + 3) / 3) ** 2))
    path = gaussian_filter1d(np.cumsum(share, axis=0), 0.12 * lesion.radii[1] + 1, axis=1)
    behind = np.clip(lesion.attenuation * path, -9, 24)
    return (1 - share) * (level + rim - behind) + share * (ground.clip(max=-2) + interior)


def _tissue(rng: Generator, breast: Breast) -> np.ndarray:
    """Echo level (dB) of the layers without lesions."""
    height, _ = shape = breast.shape
    wave = _wave(rng, breast)
    lobules = _along(0.6 * wave, _noise(rng, shape, 7, 17))
    textures = (
        breast.septa * np.exp(-((lobules / 0.22) ** 2)) + 1.5 * _noise(rng, shape, 4, 8),
        _along(wave, breast.density * _noise(rng, shape, 1.4, 11)) + 3.0 * _noise(rng, shape, 8, 14),
        _along(wave, 0.8 * breast.density * _noise(rng, shape, 1.2, 28)),
    )
    depth = np.arange(height)[:, None] + 0.012 * height * _noise(rng, shape, 12, 25)
    level = np.full(shape, breast.levels[0])
    for order, (border, mean, texture) in enumerate(zip(breast.borders, breast.levels[1:], textures, strict=True)):
        below = depth - border * height - wave * (1.0 if order else 0.15)
        level += _step(below / 1.5) * (mean + texture - level)
        # Fascia shine where they lie square to the beam.
        level += 8.0 * np.exp(-((below / 1.5) ** 2)) * (0.5 + 0.6 * _noise(rng, shape, 3, 20)).clip(0, 1.5)
    return level + 2.0 * _noise(rng, shape, 20, 25)


def _envelope(rng: Generator, level: np.ndarray) -> np.ndarray:
    """Echo amplitude: scatterers of the given level (dB) through the point-spread function, looks averaged."""
    reach = np.arange(-3, 4)
    pulse = np.exp(-0.5 * (reach / _AXIAL) ** 2)
    phase = 2 * np.pi * reach / _WAVELENGTH
    depth = np.abs(np.linspace(-0.8, 1.2, len(level)))[:, None].clip(0, 1)  # 0 in the focus
    strength = 10 ** (level / 20)
    total = np.zeros_like(level)
    for _ in range(_LOOKS):
        echoes = rng.standard_normal(level.shape) * strength
        near, far = (gaussian_filter1d(echoes, width, axis=1) * width**0.5 for width in (_LATERAL_FOCUS, _LATERAL_FAR))
        beam = near + depth * (far - near)
        wave = convolve1d(beam, pulse * np.cos(phase), axis=0) + 1j * convolve1d(beam, pulse * np.sin(phase), axis=0)
        total += np.abs(wave) + _NOISE * np.abs(rng.standard_normal(level.shape))
    return total / _LOOKS


def _beam_loss(breast: Breast) -> np.ndarray:
    """Echo lost (dB, (H, W)) with depth and, deepening along the beam, under poor contact of the probe."""
    depth = np.linspace(0, 1, breast.shape[0])[:, None]
    centre, width, dip = breast.window
    columns = (np.linspace(0, 1, breast.shape[1])[None] - centre) / width
    return breast.loss * depth**1.5 + dip * np.exp(-(columns**4)) * depth**0.5


def _compress(envelope: np.ndarray, breast: Breast) -> np.ndarray:
    """Log compression of the envelope to grey values uint8, at the operator's gain and dynamic range."""
    decibels = 20 * np.log10(envelope)
    return (255 * (1 + (decibels - breast.gain) / breast.span).clip(0, 1)).round().astype(np.uint8)


def _wave(rng: Generator, breast: Breast) -> np.ndarray:
    """Undulation (px) that the layers share, (1, W): a few slow sines."""
    column = np.arange(breast.shape[1])[None]
    waves = np.zeros(column.shape)
    for period in (2.2, 1.1, 0.6):
        turns = column / (period * breast.shape[1]) + rng.random()
        waves += period * rng.uniform(0.2, 1.0) * np.sin(2 * np.pi * turns)
    return 0.022 * breast.shape[0] * waves


def _along(wave: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Bend a level texture along an undulation (px) (1, W)."""
    rows, columns = np.indices(texture.shape, dtype=float)
    return map_coordinates(texture, (rows - wave, columns), order=1, mode="reflect")


def _noise(rng: Generator, shape: tuple[int, int], down: float, across: float) -> np.ndarray:
    """Smooth random field (H, W) of mean 0 and deviation 1, correlated over ``down`` by ``across`` pixels."""
    field = gaussian_filter(rng.standard_normal(shape), (down, across), truncate=2.5)
    return (field - field.mean()) / field.std()


def _step(value: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1 around 0."""
    return 0.5 * (1 + np.tanh(value))
