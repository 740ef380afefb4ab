"""Boxes and points of the lesions of a binary mask, and what a box alone is worth.

Masks are bool (H, W). A lesion is a component of 8 neighbours; lesions are in the order of their first pixel, row by
row. Coordinates are (x, y) with pixel centres at integers; boxes x1, y1, x2, y2 are inclusive, float32.
"""

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, find_objects, label
from torch import Tensor

EIGHT = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner belong together
MOST_JITTER = 0.5  # share of a side from which on the two corners may change places


def component_boxes(mask: np.ndarray) -> np.ndarray:
    """Tight boxes (M, 4) around the lesions of `mask`; (0, 4) of a blank one."""
    parts, _ = label(mask, EIGHT)
    corners = [(x.start, y.start, x.stop - 1, y.stop - 1) for y, x in find_objects(parts)]
    return np.array(corners, np.float32).reshape(-1, 4)


def component_points(mask: np.ndarray, count: int) -> list[np.ndarray]:
    """Of each lesion of `mask` up to `count` points (n, 2) inside it, the deepest first.

    Deep is far from what is no lesion, the outside of the image included. A point that is found counts as no lesion for
    the next, so that points spread out; a lesion of fewer than `count` pixels has fewer.
    """
    parts, _ = label(mask, EIGHT)
    found = []
    for number, (y, x) in enumerate(find_objects(parts), 1):
        inside = _deepest(np.pad(parts[y, x] == number, 1), count)
        found.append(inside + np.array([x.start - 1, y.start - 1], np.float32))
    return found


def _deepest(part: np.ndarray, count: int) -> np.ndarray:
    """Points (n, 2) of one lesion, which ends before the border of `part`; consumes `part`."""
    points: list[tuple[int, int]] = []
    while part.any() and len(points) < count:
        row, column = np.unravel_index(distance_transform_edt(part).argmax(), part.shape)
        points.append((int(column), int(row)))
        part[row, column] = False
    return np.array(points, np.float32).reshape(-1, 2)


def jittered(boxes: Tensor, share: float, size: tuple[int, int], generator: torch.Generator | None = None) -> Tensor:
    """Boxes (M, 4) whose edges each move by up to `share` of the box's side, uniformly, inside an image of `size` (H, W).

    Numbers are drawn on the CPU, box by box, so that more boxes behind them change none.

    Raises:
        ValueError: a share outside [0, 0.5).
    """
    if not 0 <= share < MOST_JITTER:
        raise ValueError(f"box jitter: expected a share of the side from 0 to below {MOST_JITTER}, found {share}")
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)
    moves = 2 * torch.rand(boxes.shape, generator=generator) - 1
    moved = boxes + share * moves.to(boxes.device) * sides
    first, last = torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])
    limit = boxes.new_tensor([size[1] - 1, size[0] - 1]).repeat(2)
    return torch.cat([first, last], 1).clamp(min=0).minimum(limit)


def inscribed_ellipses(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The union, bool (H, W) of `shape`, of the ellipses that touch the outer edges of inclusive boxes (M, 4)."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    union = np.zeros(shape, bool)
    for left, top, right, bottom in boxes:
        across = (2 * columns - left - right) / (right - left + 1)
        down = (2 * rows - top - bottom) / (bottom - top + 1)
        union |= across**2 + down**2 <= 1
    return union


def ellipse_dice(mask: np.ndarray) -> float:
    """Dice of `mask` and the ellipses in its lesions' true boxes: a box-prompted result below it says nothing; blank: NaN."""
    ellipses = inscribed_ellipses(component_boxes(mask), mask.shape)
    total = int(mask.sum()) + int(ellipses.sum())
    return 2 * int((mask & ellipses).sum()) / total if total else float("nan")
