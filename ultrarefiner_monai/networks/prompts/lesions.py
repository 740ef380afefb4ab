"""Prompts of a batch, one for each lesion, and the masks of an image's lesions as one."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ultrarefiner_monai.networks.letterbox import Zoom, fitted_shape, letterbox, undo_letterbox
from ultrarefiner_monai.networks.prompts.components import component_boxes, component_points, jittered

PromptKind = Literal["box", "points", "box_and_point"]

EMPTY_LOGIT = -20.0  # of every pixel of an image without prompts: probability 2e-9
MOST_POINTS = 3
NO_POINT = -1


class LesionPrompts(NamedTuple):
    """M prompts, those of one image together; all but `image` may be None.

    `image` (M,): the image each belongs to; `boxes` (M, 4) x1, y1, x2, y2; `points` (M, N, 2) x, y with `labels` (M, N): 1
    lesion, 0 background, -1 no point; `masks` (M, 1, H, W) in [0, 1]: what each lesion was so far. Coordinates are pixels of the
    mask, centres at integers.
    """

    image: Tensor
    boxes: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None
    masks: Tensor | None = None

    def split(self, size: int) -> list[Self]:
        """The prompts in parts of at most `size`, in their order; one part where there are none."""
        starts = range(0, max(1, len(self.image)), size)
        return [self._each(itemgetter(slice(start, start + size))) for start in starts]

    def to(self, device: torch.device | str | None, non_blocking: bool = False) -> Self:
        """The same on another device."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def on_square(self, shape: tuple[int, int], size: int) -> Self:
        """Of an image of `shape` (H, W), in its own pixels, to pixels of its letterbox of side `size`."""
        height, width = fitted_shape(shape, size)
        scale = torch.tensor([width / shape[1], height / shape[0]])
        boxes = None if self.boxes is None else (self.boxes + 0.5) * scale.repeat(2) - 0.5
        points = None if self.points is None else (self.points + 0.5) * scale - 0.5
        masks = None if self.masks is None else torch.stack([letterbox(mask, size) for mask in self.masks])
        return self._replace(boxes=boxes, points=points, masks=masks)

    def off_square(self, shape: tuple[int, int], size: int, zoom: Zoom | None = None) -> Self:
        """Of an image of `shape` (H, W), in pixels of its letterbox of side `size`, to its own pixels: undoes `on_square`.

        Masks may be of another side than the letterbox, as Segment Anything's are. `zoom` is that of the letterbox.
        """
        height, width = fitted_shape(shape, size, zoom)
        scale = torch.tensor([shape[1] / width, shape[0] / height])
        boxes = None if self.boxes is None else (self.boxes + 0.5) * scale.repeat(2) - 0.5
        points = None if self.points is None else (self.points + 0.5) * scale - 0.5
        masks = None
        if self.masks is not None:
            squares = F.interpolate(self.masks, (size, size), mode="bilinear", align_corners=False)
            masks = torch.stack([undo_letterbox(mask, shape, zoom) for mask in squares]) if len(squares) else squares
        return self._replace(boxes=boxes, points=points, masks=masks)

    def of_images(self, cut: slice) -> Self:
        """Those of the images from `cut.start` to below `cut.stop`, which are counted from 0 then."""
        mine = (self.image >= cut.start) & (self.image < cut.stop)
        kept = self._each(lambda value: value[mine])
        return kept._replace(image=kept.image - cut.start)

    def largest(self, most: int) -> Self:
        """Of each image the `most` lesions with the largest boxes, in their order; prompts with boxes alone."""
        if self.boxes is None:
            raise ValueError("the largest lesions are told by their boxes; give prompts with boxes")
        area = (self.boxes[:, 2:] - self.boxes[:, :2] + 1).prod(1)
        kept = torch.ones_like(self.image, dtype=torch.bool)
        for number in self.image.unique():
            mine = (self.image == number).nonzero()[:, 0]
            kept[mine[area[mine].argsort(descending=True, stable=True)[most:]]] = False
        return self._each(itemgetter(kept))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return self._replace(**{name: change(value) for name, value in self._asdict().items() if value is not None})


def lesion_prompts(
    masks: Tensor,
    kind: PromptKind = "box",
    *,
    points: int = 1,
    jitter: float = 0.0,
    generator: torch.Generator | None = None,
) -> LesionPrompts:
    """A prompt for each lesion of `masks` (B, 1, H, W) bool or {0, 1}: true ones, or another model's.

    Args:
        masks: see above.
        kind: tight boxes, points inside (the deepest first), or both.
        points: points a lesion.
        jitter: share of its side by which a box's edges move, see `jittered`.
        generator: of the jitter, on the CPU; None: torch's own.

    Raises:
        ValueError: another shape, an unknown kind, no points, or as `jittered`.
    """
    if masks.ndim != 4 or masks.shape[1] != 1:
        raise ValueError(f"masks of lesions must be (B, 1, H, W), found {tuple(masks.shape)}")
    if kind not in get_args(PromptKind):
        raise ValueError(f"kind of prompts must be one of {', '.join(get_args(PromptKind))}, found {kind!r}")
    if points < 1:
        raise ValueError(f"points of a lesion: expected at least 1, found {points}")
    planes = masks[:, 0].detach().cpu().numpy() > 0
    found = [component_boxes(plane) for plane in planes]
    image = torch.arange(len(planes)).repeat_interleave(torch.tensor([len(boxes) for boxes in found]))
    boxes = places = labels = None
    if kind != "points":
        size = (masks.shape[2], masks.shape[3])
        boxes = jittered(torch.from_numpy(np.concatenate(found)), jitter, size, generator).to(masks.device)
    if kind != "box":
        inside = [part for plane in planes for part in component_points(plane, points)]
        places, labels = (values.to(masks.device) for values in _padded(inside, points))
    return LesionPrompts(image.to(masks.device), boxes, places, labels)


def _padded(inside: Sequence[np.ndarray], count: int) -> tuple[Tensor, Tensor]:
    """Points (M, count, 2) and labels (M, count) of the lesions' points (n, 2), n <= count."""
    places = torch.zeros(len(inside), count, 2)
    labels = torch.full((len(inside), count), NO_POINT)
    for row, part in enumerate(inside):
        places[row, : len(part)] = torch.from_numpy(part)
        labels[row, : len(part)] = 1
    return places, labels


def is_mix(mix: Any) -> bool:
    """Whether a value is three chances that sum to 1."""
    numbers = isinstance(mix, Sequence) and all(type(one) in (int, float) for one in mix)
    return numbers and len(mix) == 3 and min(mix) >= 0 and abs(sum(mix) - 1) <= 1e-6


def mixed_prompts(
    masks: Tensor,
    mix: Sequence[float] = (0.6, 0.2, 0.2),
    *,
    jitter: float = 0.1,
    generator: torch.Generator | None = None,
) -> LesionPrompts:
    """Prompts of a training step, of one kind drawn for the batch: boxes with jitter, 1 to 3 points, or a box and a point.

    Args:
        masks: see `lesion_prompts`.
        mix: chances of the three kinds.
        jitter: see `lesion_prompts`.
        generator: of all draws, on the CPU; None: torch's own.

    Raises:
        ValueError: chances that are not three that sum to 1, or as `lesion_prompts`.
    """
    if not is_mix(mix):
        raise ValueError(f"prompt_mix: expected chances of box, points, box and point that sum to 1, found {list(mix)}")
    kinds = get_args(PromptKind)
    kind = kinds[int(torch.multinomial(torch.tensor(mix), 1, generator=generator))]
    most = MOST_POINTS if kind == "points" else 1
    points = int(torch.randint(1, most + 1, (), generator=generator))
    return lesion_prompts(masks, kind, points=points, jitter=jitter, generator=generator)


def merge_masks(logits: Tensor, image: Tensor, batch: int) -> Tensor:
    """Logits (B, 1, H, W) of `batch` images from those of their lesions (M, 1, H, W) by the maximum.

    `image` (M,) says which image a lesion is in; one without any gets EMPTY_LOGIT.
    """
    merged = logits.new_full((batch, *logits.shape[1:]), EMPTY_LOGIT)
    index = image.view(-1, 1, 1, 1).expand_as(logits)
    return merged.scatter_reduce(0, index, logits, "amax", include_self=False)
