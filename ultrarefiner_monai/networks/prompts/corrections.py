"""How a user's clicks and box correct a map: discs around the clicks, and nothing outside of the box.

Maps are probabilities (H, W) in [0, 1], a mask being one of 0 and 1. Coordinates are (x, y) with pixel centres at integers; boxes
x1, y1, x2, y2 are inclusive.
"""

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ultrarefiner_monai.networks.prompts.components import inscribed_ellipses
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts

LESION = 0.5  # probability from which a pixel of a map is lesion
REACH = 0.2  # radius of a click's disc at most, as a share of the map's longer side
SLACK = 0.1  # share of a box' sides by which it may be too small


def click_discs(mask: np.ndarray, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What clicks say of the pixels of `mask` (H, W) bool: int8 (H, W), 1 lesion, 0 background, -1 nothing.

    A click speaks for the disc around it that ends at the mask's outline: where it contradicts the mask the outline moves past
    it, where it agrees nothing changes. Of two clicks the nearer one speaks for a pixel.

    Args:
        mask: see above; without lesion, or full of it, discs have the largest radius.
        points: (N, 2) inside of the mask.
        labels: (N,): 1 lesion, 0 background, -1 no click.
    """
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    most = max(1.0, REACH * max(mask.shape))
    depth = np.full(mask.shape, most)
    if 0 < mask.sum() < mask.size:
        depth = np.where(mask, distance_transform_edt(mask), distance_transform_edt(~mask)).clip(max=most)
    said, nearest = np.full(mask.shape, -1, np.int8), np.full(mask.shape, np.inf)
    last = np.array(mask.shape[::-1]) - 1
    for (x, y), label in zip(points.round().clip(0, last).astype(int), labels, strict=True):
        distance = np.hypot(rows - y, columns - x)
        mine = (distance < depth[y, x]) & (distance < nearest) & (label >= 0)
        said[mine], nearest[mine] = label, distance[mine]
    return said


def with_clicks(probability: np.ndarray, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A map with the discs of clicks, see `click_discs`, in it as 1 and 0."""
    said = click_discs(probability >= LESION, points, labels)
    return np.where(said < 0, probability, said).astype(probability.dtype)


def within_box(probability: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A map without what lies outside of a box (4,) grown by `SLACK`; the ellipse that the box holds where no lesion is left."""
    sides = SLACK * np.tile(box[2:] - box[:2] + 1, 2)
    left, top, right, bottom = box + sides * [-1, -1, 1, 1]
    rows, columns = np.ogrid[: probability.shape[0], : probability.shape[1]]
    inside = np.where((rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right), probability, 0)
    if not (inside >= LESION).any():
        inside = inscribed_ellipses(box[None], probability.shape)
    return inside.astype(probability.dtype)


def corrected(probability: Tensor, prompts: LesionPrompts) -> Tensor:
    """Maps (B, 1, H, W) with the corrections that `prompts`, at most one an image, make of them; no gradient flows.

    A prompt's mask takes the map's place, its box comes next, its clicks last.
    """
    maps = probability.detach().clone()
    for row, image in enumerate(prompts.image.tolist()):
        given = maps[image, 0] if prompts.masks is None else prompts.masks[row, 0]
        plane = given.float().cpu().numpy()
        if prompts.boxes is not None:
            plane = within_box(plane, prompts.boxes[row].cpu().numpy())
        if prompts.points is not None and prompts.labels is not None:
            plane = with_clicks(plane, prompts.points[row].cpu().numpy(), prompts.labels[row].cpu().numpy())
        maps[image, 0] = torch.from_numpy(plane).to(maps)
    return maps
