"""Differentiable prompts: a soft mask becomes points, a box and mask logits for Segment Anything.

Conventions. `prob` is (B, 1, H, W) in [0, 1]. Coordinates are (x, y) in pixels of that map with pixel centres at
integers; a box is x1, y1, x2, y2, inclusive of the pixels it touches. Everything is computed in float32 (float64 for
float64 maps), whatever autocast says, and every output carries a gradient to `prob`.

A map's *level* is the value that counts as lesion: 0.5, or two thirds of the peak of a faint map.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Evidence is SHARPNESS * (p / level - 1): a background of 0.05 then hits a scan line with probability 1.4e-6, small
# enough for 1024 lines, while a boundary pixel (p near the level) keeps a strong gradient.
SHARPNESS = 15.0
# A growing box side gives up at most this share of its distance to the image's edge: inside without a clamp, so the
# side of a lesion that touches the edge keeps a gradient.
EDGE_SHARE = 0.9
# Largest move of a box side in pixels per unit of evidence that is passed back (soft masks stay below 1). A far speck
# near the level would give thousands; with SHARPNESS / level <= 225 the box's gradient stays below 1e3 in all.
STEADINESS = 1.5
MINIMUM_SIZE = 1.0  # pixels; the box of a one-pixel lesion spans that pixel
# Point scores are raised to this power before they are averaged: ridges dominate, gradients stay bounded.
POINT_POWER = 4.0
# In units of the lesion's equivalent radius: blur that finds its middle, window of the average, spacing of points.
BLUR, WINDOW, SPACING = 0.5, 0.25, 0.5
MASK_EPS = 1e-3  # mask logits span +-6.9, the range of SAM's own low-resolution logits
TINY = 1e-6


class Prompts(NamedTuple):
    """One prompt set an image; a switched-off prompt is None.

    `points` (B, N, 2) with `labels` (B, N): 1 lesion, 0 background, -1 ignored; `boxes` (B, 4);
    `masks` (B, 1, h, w) logits; `empty` (B,) bool: the map held nothing to prompt from (see PromptGenerator).
    """

    points: Tensor | None
    labels: Tensor | None
    boxes: Tensor | None
    masks: Tensor | None
    empty: Tensor


class PromptGenerator(nn.Module):
    """Turn a coarse probability map into prompts.

    - positive points: average position around the peak of p * blur(p), weighted by that score; further ones after
      suppressing the surroundings of the former;
    - negative points: the same on background * distance from the lesion, inside the box grown by `negative_reach`;
    - box: expected first and last hit of the column and row maxima (see `expected_gaps`), grown by `box_margin`;
    - mask: antialiased resize, then logit.

    A map whose values differ by less than `min_contrast` (blank, flat, full) or that holds NaN or infinity raises
    `empty`: its box is the whole image, its mask logits are zero, its points have label -1, and no gradient flows.

    Args:
        positive_points: number of points on the lesion, 0 switches them off.
        negative_points: number of points on the background, 0 switches them off.
        box: give the box.
        mask: give the mask logits.
        box_margin: growth of the box on each side, as a share of its width and height.
        negative_reach: growth of the box in which negative points are looked for, in the same unit.
        min_contrast: least difference between a map's largest and smallest value.

    Raises:
        ValueError: for no prompt at all, a negative count, margin or contrast, or a map of the wrong shape.

    Example:
        >>> prob = torch.zeros(1, 1, 64, 64)
        >>> prob[..., 20:30, 10:40] = 1
        >>> PromptGenerator(positive_points=0, negative_points=0)(prob).boxes.round()
        tensor([[10., 20., 39., 29.]])
    """

    def __init__(
        self,
        *,
        positive_points: int = 1,
        negative_points: int = 1,
        box: bool = True,
        mask: bool = True,
        box_margin: float = 0.0,
        negative_reach: float = 0.2,
        min_contrast: float = 0.1,
    ) -> None:
        super().__init__()
        self.settings: dict[str, int | float | bool] = {
            "positive_points": positive_points,
            "negative_points": negative_points,
            "box": box,
            "mask": mask,
            "box_margin": box_margin,
            "negative_reach": negative_reach,
            "min_contrast": min_contrast,
        }
        for name, value in self.settings.items():
            if value < 0:
                raise ValueError(f"prompt setting {name} must be >= 0, found {value}")
        if not (positive_points or negative_points or box or mask):
            raise ValueError("all prompts are switched off; switch on at least one of points, box, mask")
        self.positive_points = positive_points
        self.negative_points = negative_points
        self.box = box
        self.mask = mask
        self.box_margin = box_margin
        self.negative_reach = negative_reach
        self.min_contrast = min_contrast

    def forward(self, prob: Tensor, mask_size: tuple[int, int] | None = None) -> Prompts:
        """Prompts of `prob` (B, 1, H, W); `mask_size` (h, w) is the grid of the mask logits, None keeps H, W."""
        if prob.ndim != 4 or prob.shape[1] != 1 or min(prob.shape[2:]) < 2:
            raise ValueError(f"prompts need a probability map (B, 1, H, W), H, W >= 2, found {tuple(prob.shape)}")
        with torch.autocast(prob.device.type, enabled=False):
            prob, empty = self._usable(prob if prob.dtype == torch.float64 else prob.float())
            image = prob[:, 0]
            evidence = lesion_evidence(image)
            gaps = expected_gaps(evidence)
            points, labels = self._points(image, evidence, gaps, empty)
            return Prompts(
                points=points,
                labels=labels,
                boxes=self._boxes(gaps, image, empty) if self.box else None,
                masks=mask_logits(prob, mask_size).masked_fill(empty.view(-1, 1, 1, 1), 0.0) if self.mask else None,
                empty=empty,
            )

    def _usable(self, prob: Tensor) -> tuple[Tensor, Tensor]:
        """The map with unusable images set to a constant zero (which cuts their gradient), and their flag (B,)."""
        values = prob.flatten(1)
        finite = values.isfinite().all(1)
        contrast = values.amax(1) - values.amin(1)
        empty = ~(finite & (contrast >= self.min_contrast))
        return prob.masked_fill(empty.view(-1, 1, 1, 1), 0.0).clamp(0, 1), empty

    def _boxes(self, gaps: Tensor, image: Tensor, empty: Tensor) -> Tensor:
        extent = _extent(image)
        boxes = gaps_to_boxes(grow(gaps, extent, self.box_margin), extent)
        whole = torch.cat([torch.zeros_like(extent), extent]).expand_as(boxes)
        return torch.where(empty[:, None], whole, boxes)

    def _points(
        self, image: Tensor, evidence: Tensor, gaps: Tensor, empty: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        counts = (self.positive_points, self.negative_points)
        if not any(counts):
            return None, None
        radius = equivalent_radius(evidence)
        blurred = gaussian_blur(image, BLUR * radius)
        found = []
        if self.positive_points:
            score = POINT_POWER * (_safe_log(image) + _safe_log(blurred))
            found.append(soft_peaks(score, radius, self.positive_points))
        if self.negative_points:
            score = POINT_POWER * (_safe_log(1 - image) + _safe_log(1 - blurred))
            score = score + POINT_POWER * log_inside(grow(gaps, _extent(image), self.negative_reach), gaps, image)
            found.append(soft_peaks(score, radius, self.negative_points))
        points = torch.where(empty[:, None, None], _extent(image) / 2, torch.cat(found, 1))
        labels = torch.tensor([1] * counts[0] + [0] * counts[1], device=image.device).expand(image.shape[0], -1)
        return points, labels.masked_fill(empty[:, None], -1)


def lesion_evidence(image: Tensor) -> Tensor:
    """Log-odds (B, H, W) that a pixel of `image` (B, H, W) belongs to the lesion: zero at the map's level."""
    peak = image.detach().amax((1, 2), keepdim=True)
    level = (2 / 3 * peak).clamp(TINY, 0.5)
    return SHARPNESS * (image / level - 1)


def expected_gaps(evidence: Tensor) -> Tensor:
    """Distance of the lesion from the image's left, top, right and bottom edge, (B, 4) pixels >= 0.

    Scanning columns (or rows) from an edge, each hits the lesion with the probability m of its strongest pixel. The
    first hit is expected at sum_x prod_{x' <= x} (1 - m(x')), exact for a binary mask.
    """
    columns, rows = evidence.amax(1), evidence.amax(2)
    return torch.stack([_first_hit(line) for line in (columns, rows, columns.flip(1), rows.flip(1))], 1)


def _first_hit(evidence: Tensor) -> Tensor:
    """Expected index (B,) of the first hit along (B, L) log-odds, given that there is one.

    log(1 - sigmoid(z)) = -softplus(z), so the survival product is a cumulative sum that neither under- nor overflows.
    """
    evidence = scale_gradient(evidence, (STEADINESS / _sensitivity(evidence)).clamp(max=1))
    log_survival = -F.softplus(evidence).cumsum(1)
    missed = log_survival[:, -1:]
    return ((log_survival.exp() - missed.exp()) / -torch.expm1(missed)).sum(1)


@torch.no_grad()
def _sensitivity(evidence: Tensor) -> Tensor:
    """Norm (B, 1) of the first hit's derivative: line j moves it by -m_j * sum_{x >= j} survival(x)."""
    survival = torch.exp(-F.softplus(evidence).cumsum(1))
    remaining = survival.flip(1).cumsum(1).flip(1)
    return (evidence.sigmoid() * remaining).norm(dim=1, keepdim=True)


def scale_gradient(value: Tensor, scale: float | Tensor) -> Tensor:
    """The same `value`, with its gradient multiplied by `scale`."""
    return value.detach() + scale * (value - value.detach())


def grow(gaps: Tensor, extent: Tensor, margin: float) -> Tensor:
    """Shrink the `gaps` (B, 4) around a box by `margin` times its size; the box spans about one pixel at least."""
    size = (extent - gaps[:, :2] - gaps[:, 2:]).clamp(min=0)
    # sqrt(size^2 + minimum^2) - size, written without cancellation: a whole pixel for size 0, nothing for large ones.
    missing = MINIMUM_SIZE**2 / ((size.square() + MINIMUM_SIZE**2).sqrt() + size)
    extra = (margin * size + missing / 2).repeat(1, 2)
    return torch.maximum(gaps - extra, (1 - EDGE_SHARE) * gaps)


def gaps_to_boxes(gaps: Tensor, extent: Tensor) -> Tensor:
    """Boxes (B, 4) x1, y1, x2, y2 from the gaps (B, 4) left, top, right, bottom around them."""
    return torch.cat([gaps[:, :2], extent - gaps[:, 2:]], 1)


def equivalent_radius(evidence: Tensor) -> Tensor:
    """Radius (B,) in pixels, >= 1, of the disc with the lesion's area."""
    return (evidence.sigmoid().sum((1, 2)) / math.pi).clamp(min=1).sqrt()


def gaussian_blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Blur `image` (B, H, W) with one `sigma` (B,) an image; outside the image counts as zero."""

    def kernel(length: int) -> Tensor:
        index = torch.arange(length, dtype=image.dtype, device=image.device)
        square = (index[:, None] - index).square()
        width = sigma[:, None, None]
        return torch.exp(-square / (2 * width.square())) / (width * math.sqrt(2 * math.pi))

    return kernel(image.shape[1]) @ image @ kernel(image.shape[2])


def log_inside(outer: Tensor, inner: Tensor, image: Tensor) -> Tensor:
    """Log of a soft membership (B, H, W) in the box with gaps `outer`; soft over a part of the ring to `inner`."""
    extent = _extent(image)
    box = gaps_to_boxes(outer, extent)
    softness = ((inner - outer) / 4).clamp(min=0.5)

    def log_between(axis: int) -> Tensor:
        index = torch.arange(image.shape[2 - axis], dtype=image.dtype, device=image.device)
        after = F.logsigmoid((index - box[:, axis, None]) / softness[:, axis, None])
        before = F.logsigmoid((box[:, axis + 2, None] - index) / softness[:, axis + 2, None])
        return after + before

    return log_between(0)[:, None, :] + log_between(1)[:, :, None]


def soft_peaks(log_score: Tensor, radius: Tensor, count: int) -> Tensor:
    """Positions (B, count, 2) of the highest peaks of `log_score` (B, H, W), best first.

    Each is the average position in a Gaussian window around the maximum, weighted by the score: differentiable, and
    never half-way between two lesions as a global average is. The window's place carries no gradient.
    """
    points = []
    for _ in range(count):
        best = log_score.detach().flatten(1).argmax(1)
        width = log_score.shape[2]
        centre = torch.stack([best % width, best // width], 1).to(log_score.dtype)
        window = -_distance(centre, log_score) / (2 * (WINDOW * radius).square()[:, None, None])
        weight = (log_score + window).flatten(1).softmax(1).view_as(log_score)
        points.append(_centroid(weight))
        spread = _distance(points[-1], log_score) / (2 * (SPACING * radius).square()[:, None, None])
        log_score = log_score + POINT_POWER * _safe_log(-torch.expm1(-spread))
    return torch.stack(points, 1)


def mask_logits(prob: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Logits (B, 1, h, w) of `prob` (B, 1, H, W); probabilities are drawn in by MASK_EPS so that none saturates."""
    if size is not None and tuple(size) != tuple(prob.shape[2:]):
        prob = F.interpolate(prob, size, mode="bilinear", align_corners=False, antialias=True)
    return torch.logit(MASK_EPS + (1 - 2 * MASK_EPS) * prob)


def _extent(image: Tensor) -> Tensor:
    """Largest coordinate (2,) in x and y of `image` (B, H, W)."""
    return torch.tensor([image.shape[2] - 1, image.shape[1] - 1], dtype=image.dtype, device=image.device)


def _distance(point: Tensor, image: Tensor) -> Tensor:
    """Squared distance (B, H, W) of every pixel of `image` to `point` (B, 2)."""
    rows = torch.arange(image.shape[1], dtype=image.dtype, device=image.device)
    columns = torch.arange(image.shape[2], dtype=image.dtype, device=image.device)
    return (columns - point[:, :1]).square()[:, None, :] + (rows - point[:, 1:]).square()[:, :, None]


def _centroid(weight: Tensor) -> Tensor:
    """Mean position (B, 2) under `weight` (B, H, W) that sums to one."""
    rows = torch.arange(weight.shape[1], dtype=weight.dtype, device=weight.device)
    columns = torch.arange(weight.shape[2], dtype=weight.dtype, device=weight.device)
    return torch.stack([(weight.sum(1) * columns).sum(1), (weight.sum(2) * rows).sum(1)], 1)


def _safe_log(value: Tensor) -> Tensor:
    return value.clamp(min=TINY).log()
