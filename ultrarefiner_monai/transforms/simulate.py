"""Plausible coarse predictions made from true masks, for a refiner that has too few real ones."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from scipy.ndimage import affine_transform, distance_transform_edt, gaussian_filter

_NEUTRAL_SIZE = 512  # px; softness is stated for an image whose long side this is
_FAULT_CHANCE = 0.2  # chance of a missing chunk, and of a false island


class SimulateCoarsed(RandomizableTransform, MapTransform):
    """Write what a coarse network might have made of a true mask: a soft probability (1, H, W) in (0, 1).

    The signed distance of the mask is scaled and shifted (an error of size and place), bent by a smooth random field
    (an error of the border), sometimes bitten into (a missing chunk) or given an island (a false positive), and
    softened: p = sigmoid(distance / T), T of 2 to 8 px in an image of 512 px. A blank mask stays blank but for a rare
    island.

    All numbers come from the transform's own `R`: `set_random_state` makes it repeatable, and MONAI's `DataLoader`
    seeds every worker and epoch apart.

    Simulated errors alone teach little about real ones (measured: a refiner trained on them harmed one in four real
    masks), so mix: an item that already has a coarse map keeps it with probability `1 - prob`.

    Args:
        keys: the true mask, (1, H, W) in {0, 1}.
        coarse_key: key written.
        image_key: image (C, H, W) whose letterbox padding (trailing zero rows and columns) stays zero in the map.
        prob: chance that an item's coarse map is simulated; where the item has none it always is.
        softness: range of T (px at a long side of 512).
    """

    def __init__(
        self,
        keys: KeysCollection,
        coarse_key: str = "coarse",
        image_key: str = "image",
        prob: float = 1.0,
        softness: tuple[float, float] = (2.0, 8.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(self.keys) != 1:
            raise ValueError(f"SimulateCoarsed reads one mask, found keys {self.keys}; use one transform for each")
        self.coarse_key, self.image_key = coarse_key, image_key
        self.softness = softness

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with a simulated map under `coarse_key`."""
        item = dict(data)
        for key in self.key_iterator(item):
            self.randomize(None)
            if self._do_transform or self.coarse_key not in item:
                item[self.coarse_key] = self._simulate(np.asarray(item[key])[0] > 0.5, item.get(self.image_key))
        return item

    def _simulate(self, mask: np.ndarray, image: torch.Tensor | None) -> MetaTensor:
        """Simulate on the part of the mask that lies in the image, not in its padding."""
        height, width = mask.shape if image is None else _content(np.asarray(image))
        coarse = np.zeros((1, *mask.shape), np.float32)
        coarse[0, :height, :width] = simulate(mask[:height, :width], self.R, self.softness)
        return MetaTensor(torch.from_numpy(coarse))


def _content(image: np.ndarray) -> tuple[int, int]:
    """Height and width of an image (C, H, W) without its trailing zero rows and columns; all of a blank one."""
    lit = np.any(image, axis=0)
    if not np.any(lit):
        return lit.shape
    rows, columns = (np.flatnonzero(np.any(lit, axis=axis)) for axis in (1, 0))
    return int(rows[-1]) + 1, int(columns[-1]) + 1


def simulate(mask: np.ndarray, rng: np.random.RandomState, softness: tuple[float, float] = (2.0, 8.0)) -> np.ndarray:
    """A plausible coarse probability (H, W) float32 for a true mask (H, W) bool; see `SimulateCoarsed`."""
    scale = max(mask.shape) / _NEUTRAL_SIZE
    distance = _signed_distance(mask)
    if mask.any():
        distance = _misplaced(distance, mask, rng)
        reach = rng.uniform(0.3, 0.9) * _radius(mask)
        distance += rng.uniform(0.0, 0.25) * _radius(mask) * _smooth_field(mask.shape, reach, rng)
        if rng.random_sample() < _FAULT_CHANCE:
            distance = np.minimum(distance, -_blob(mask.shape, _point_of(mask, rng), 0.6 * _radius(mask), rng))
    if rng.random_sample() < _FAULT_CHANCE:
        distance = np.maximum(distance, _blob(mask.shape, _point_of(~mask, rng), rng.uniform(4, 24) * scale, rng))
    logits = distance / (rng.uniform(*softness) * scale)
    return (1 / (1 + np.exp(-logits.clip(-30, 30)))).astype(np.float32)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance (px) to the mask's border, half-way between pixels: positive inside; far outside for a blank mask."""
    if not mask.any():
        return np.full(mask.shape, -float(max(mask.shape)))
    outside = distance_transform_edt(~mask)
    inside = distance_transform_edt(mask) if not mask.all() else np.full(mask.shape, float(max(mask.shape)))
    return np.where(mask, inside - 0.5, 0.5 - outside)


def _misplaced(distance: np.ndarray, mask: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Scale a distance map about the lesion's centre by 0.8 to 1.25 and shift it by up to a fifth of its radius."""
    zoom = np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    centre = np.argwhere(mask).mean(axis=0)
    shift = rng.uniform(-0.2, 0.2, 2) * _radius(mask)
    moved = affine_transform(distance, np.full(2, 1 / zoom), centre - (centre + shift) / zoom, order=1, mode="nearest")
    return zoom * moved


def _blob(shape: tuple[int, ...], centre: np.ndarray, radius: float, rng: np.random.RandomState) -> np.ndarray:
    """Signed distance (px), positive inside, of an uneven disc."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    disc = radius - np.hypot(rows - centre[0], columns - centre[1])
    return disc + 0.3 * radius * _smooth_field(shape, max(radius / 2, 1.0), rng)


def _smooth_field(shape: tuple[int, ...], sigma: float, rng: np.random.RandomState) -> np.ndarray:
    """Random field of mean 0 and deviation 1, smooth over `sigma` pixels."""
    field = gaussian_filter(rng.standard_normal(shape), max(sigma, 0.5), mode="reflect", truncate=3)
    return (field - field.mean()) / max(field.std(), 1e-9)


def _point_of(mask: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """A random pixel (row, column) of the mask, or of the image where the mask is blank."""
    candidates = np.flatnonzero(mask) if mask.any() else np.arange(mask.size)
    return np.array(np.unravel_index(candidates[rng.randint(len(candidates))], mask.shape))


def _radius(mask: np.ndarray) -> float:
    """Radius (px) of the disc of the mask's area."""
    return float(np.sqrt(mask.sum() / np.pi))
