"""Clicks and a box of a request: what they may be, and the prompts that they become.

Coordinates are (x, y) in pixels of the picture as it is displayed, the centre of the first being (0, 0).
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from scipy.ndimage import distance_transform_edt, label

from ultrarefiner_monai.deploy.monailabel.labels import read_label
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.networks.prompts.components import EIGHT, component_boxes
from ultrarefiner_monai.networks.prompts.corrections import LESION, with_clicks, within_box
from ultrarefiner_monai.networks.prompts.lesions import NO_POINT, LesionPrompts
from ultrarefiner_monai.systems.key import Key

MOST = 100  # clicks of a kind
FARTHEST = 1_000_000  # pixel; no picture is larger
SIGNS = {"foreground": 1, "background": 0}  # a click's label
BOX = "roi"


@dataclass(frozen=True)
class Clicks(Key):
    """A key that holds a list of points [x, y], or [x, y, z] as programs for volumes send them; z is left out."""

    @property
    def expected(self) -> str:
        """What a value must be."""
        return f"a list of at most {MOST} points [x, y]"

    def _read(self, value: Any) -> list[list[float]]:
        if isinstance(value, list) and len(value) <= MOST and all(_numbers(point, (2, 3)) for point in value):
            return [[float(number) for number in point[:2]] for point in value]
        raise ValueError


@dataclass(frozen=True)
class Box(Key):
    """A key that holds a box as 3D Slicer sends it, [x1, x2, y1, y2] or with z1, z2 behind, which are left out; [] is none."""

    @property
    def expected(self) -> str:
        """What a value must be."""
        return "[x1, x2, y1, y2] with x1 other than x2 and y1 other than y2"

    def _read(self, value: Any) -> list[float]:
        """The box as x1, y1, x2, y2 with x1 < x2 and y1 < y2; a picture's axes may count against space."""
        if value == []:
            return []
        if not _numbers(value, (4, 6)) or value[0] == value[1] or value[2] == value[3]:
            raise ValueError
        across, down = (sorted(map(float, value[start : start + 2])) for start in (0, 2))
        return [across[0], down[0], across[1], down[1]]


def _numbers(value: Any, lengths: tuple[int, ...]) -> bool:
    """Whether it is a list of so many numbers that can be pixels; NaN is none."""
    return (
        isinstance(value, list)
        and len(value) in lengths
        and all(type(one) in (int, float) and abs(one) <= FARTHEST for one in value)
    )


KEYS = (
    Clicks("foreground", "number", "clicks on the lesion"),
    Clicks("background", "number", "clicks beside it"),
    Box(BOX, "number", "box around the lesion"),
)


def is_asked(data: Mapping[Hashable, Any]) -> bool:
    """Whether a request has a click or a box."""
    return any(data.get(key.name) for key in KEYS)


class PromptsOfRequest(Transform):
    """Put the clicks and the box of a request to the picture that they are of, as the network takes them: `prompts` in its meta.

    Args:
        size: side in pixels of the square that the network sees.
        lesions: whether the network is asked about lesions, each by a prompt of its own; others get one prompt, which corrects
            their map.
        points_beside_box: whether clicks are points of a prompt that has a box, too. Where they are not (LiteMedSAM gets worse
            with them), clicks without a box correct the answer alone: asked again with another box for each click, the network
            changes what nobody clicked on.

    Raises:
        DataError: one lies outside of the picture, or there is no mask that background clicks could correct.
    """

    def __init__(self, size: int, lesions: bool, points_beside_box: bool = True) -> None:
        self.size = size
        self.lesions = lesions
        self.points_beside_box = points_beside_box

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the names of what is `used`, the `clicks`, and of a mask that stays what is `kept`.

        The picture (1, H, W) is under `image`; the map of a network that does not find one itself under `coarse`, for others a
        mask may be a path under `label`.
        """
        used, image = list(data.get("used", [])), data["image"]
        if not is_asked(data):
            return {**data, "used": used}
        height, width = image.shape[1:]
        points, labels, box = _sent(data)
        corners = [] if box is None else [box.reshape(2, 2)]
        _check_inside(np.concatenate([points, *corners]), width, height)
        if "coarse" in data and not used and box is None and not labels.any():
            raise DataError(
                "a background click corrects a mask, and there is none: click on the lesion ('foreground'), draw a box ('roi') "
                "or send a mask as 'label'"
            )
        kept: dict[Hashable, Any] = {}
        if self.lesions:
            mask = data["coarse"][0].numpy()
            if self.points_beside_box or box is not None or not (mask >= LESION).any():
                prompts = asked_lesions(points, labels, box, mask, points_beside_box=self.points_beside_box)
            else:
                kept = {"kept": mask >= LESION} if "label" in used else {}
                prompts = lesions_beside(points, labels, mask, new_alone=bool(kept))
        else:
            prompts = one_prompt(points, labels, box)
        if "coarse" not in data and isinstance(data.get("label"), str):
            mask = read_label(data["label"], (width, height)).astype(np.float32)
            prompts = prompts._replace(masks=torch.from_numpy(mask)[None, None])
            used.append("label")
        image.meta["prompts"] = prompts.on_square((height, width), self.size)
        used += ["clicks"] * bool(len(points)) + ["box"] * bool(corners)
        return {**data, "used": used, "clicks": (points, labels), **kept}


def _sent(data: Mapping[Hashable, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Clicks (N, 2) of a request, their labels (N,), and its box (4,)."""
    clicks = [(point, sign) for name, sign in SIGNS.items() for point in data.get(name) or []]
    points = np.array([point for point, _ in clicks], np.float32).reshape(-1, 2)
    labels = np.array([sign for _, sign in clicks], np.int64)
    return points, labels, np.array(data[BOX], np.float32) if data.get(BOX) else None


def _check_inside(points: np.ndarray, width: int, height: int) -> None:
    """Refuse points (N, 2) outside of the picture's pixels."""
    outside = (points < -0.5) | (points >= np.array([width, height]) - 0.5)
    if outside.any():
        x, y = points[outside.any(axis=1)][0]
        raise DataError(f"clicks, box: ({x:g}, {y:g}) lies outside of the picture, which has {width}x{height} pixels")


def one_prompt(points: np.ndarray, labels: np.ndarray, box: np.ndarray | None) -> LesionPrompts:
    """Clicks (N, 2) with labels (N,) and a box (4,) as one prompt of the first image."""
    places, signs = (torch.from_numpy(points)[None], torch.from_numpy(labels)[None]) if len(points) else (None, None)
    return LesionPrompts(
        torch.zeros(1, dtype=torch.long), None if box is None else torch.from_numpy(box)[None], places, signs
    )


def asked_lesions(
    points: np.ndarray,
    labels: np.ndarray,
    box: np.ndarray | None,
    mask: np.ndarray,
    points_beside_box: bool = True,
) -> LesionPrompts:
    """The lesions that a network is asked about: that of the clicks and the box, then what else `mask` (H, W) holds.

    The mask is corrected first (see `corrections`). What clicks on lesion touch is theirs, and where there are none what lies
    nearest to the first click; with a box, all that is in it. Its prompt has the box, or that around it, the clicks, and the mask
    so far; that of another lesion has its box and its mask. Without a mask the clicks are all.

    Args:
        points: (N, 2) with `labels` (N,), of one lesion.
        labels: see above.
        box: (4,) or None.
        mask: probability, blank if nothing is known.
        points_beside_box: whether clicks are points of a prompt that has a box, too.
    """
    if not (mask >= LESION).any() and (box is not None or labels.any()):
        prompt = one_prompt(points, labels, box)
        return prompt if box is None or points_beside_box else prompt._replace(points=None, labels=None)
    if box is not None:
        mask = within_box(mask, box)
    parts, count = label(with_clicks(mask, points, labels) >= LESION, EIGHT)
    mine = np.isin(parts, _touched(parts, points, labels)) & (parts > 0) if box is None else parts > 0
    others = [parts == number for number in range(1, count + 1) if not (mine & (parts == number)).any()]
    lesions = [part for part in (mine, *others) if part.any()]
    if not lesions:  # the clicks have removed all of it
        return LesionPrompts(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
    boxes = np.stack([_box_around(part) for part in lesions])
    if box is not None:
        boxes[0] = box
    places = np.tile(points, (len(lesions), 1, 1))
    signs = np.full((len(lesions), len(points)), NO_POINT)
    signs[0] = labels if mine.any() else NO_POINT
    with_points = len(points) > 0 and points_beside_box
    return LesionPrompts(
        torch.zeros(len(lesions), dtype=torch.long),
        torch.from_numpy(boxes),
        torch.from_numpy(places) if with_points else None,
        torch.from_numpy(signs) if with_points else None,
        torch.from_numpy(np.stack(lesions)[:, None].astype(np.float32)),
    )


def lesions_beside(points: np.ndarray, labels: np.ndarray, mask: np.ndarray, new_alone: bool) -> LesionPrompts:
    """The lesions that a network is asked about where clicks correct its answer: a box of each.

    They are those that `mask` (H, W) shows, as without clicks, but for those that clicks (see `corrections`) remove whole; and
    those that clicks on lesion add where the mask has none.

    Args:
        points: (N, 2) with `labels` (N,).
        labels: see above.
        mask: probability with a lesion.
        new_alone: leave out those of the mask, which stays what it is.
    """
    before, count = label(mask >= LESION, EIGHT)
    after, added = label(with_clicks(mask, points, labels) >= LESION, EIGHT)
    old = [] if new_alone else [before == number for number in range(1, count + 1)]
    new = [after == number for number in range(1, added + 1)]
    lesions = [part for part in old if after[part].any()] + [part for part in new if not before[part].any()]
    boxes = np.stack([_box_around(part) for part in lesions]) if lesions else np.zeros((0, 4))
    return LesionPrompts(torch.zeros(len(lesions), dtype=torch.long), torch.from_numpy(boxes).float())


def _box_around(part: np.ndarray) -> np.ndarray:
    """The tight box (4,) around all components of a part (H, W)."""
    boxes = component_boxes(part)
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def _touched(parts: np.ndarray, points: np.ndarray, labels: np.ndarray) -> list[int]:
    """Numbers in `parts` (H, W), 0 for none, that clicks on lesion touch; without any, of what is nearest to the first click."""
    columns, rows = points.round().astype(int).T
    found = [int(number) for number in parts[rows, columns][labels == 1] if number]
    if found or not parts.any():
        return found
    _, (near_row, near_column) = distance_transform_edt(parts == 0, return_indices=True)
    return [int(parts[near_row[rows[0], columns[0]], near_column[rows[0], columns[0]]])]
