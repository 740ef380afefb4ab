"""Metrics of binary masks, image by image."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy.ndimage import find_objects
from torch import Tensor

from ultrarefiner_monai.metrics.boundaries import Spacing, band_width, boundary_iou, outline_metrics
from ultrarefiner_monai.metrics.lesions import lesion_counts
from ultrarefiner_monai.metrics.overlap import NAN, overlap_metrics

MEANS = ("dice", "iou", "precision", "recall", "specificity", "hd95", "assd", "nsd", "boundary_iou")
COUNTS = ("lesions", "lesions_found", "false_lesions")
FALSE_POSITIVES = ("false_positive", "false_positive_area", "false_positive_pixels")
DISTANCES = ("hd95", "assd")  # in mm where the spacing is known
NOTHING = np.s_[:1, :1]  # where both masks are blank, one pixel says as much as all


def segmentation_metrics(pred: Tensor, target: Tensor, spacing: Spacing | None = None) -> dict[str, Tensor]:
    """Compare each predicted mask of a batch with its truth.

    From pixel counts: Dice = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN), precision = TP / (TP + FP), recall =
    TP / (TP + FN), specificity = TN / (TN + FP). From outlines: `hd95`, `assd`, `nsd` (tolerance 2 px) as
    `outline_metrics` and `boundary_iou` as `boundary_iou` define them. Counts of objects: `lesions`,
    `lesions_found`, `false_lesions` as in `lesion_counts`. Where the truth is blank: `false_positive` (1 if any
    pixel is predicted, else 0), `false_positive_area` (share of the image) and `false_positive_pixels`.

    What is undefined is NaN, never 0 or 1; `summarise` counts it. docs/reference/metrics.md has the table of all empty
    cases, in short: where the truth is blank, recall, hd95 and assd are undefined, dice, iou, precision, nsd and
    boundary_iou are 0 for a false alarm; where the prediction is blank, precision, hd95 and assd are undefined; where
    both are, only specificity and the counts are defined.

    Args:
        pred: (B, 1, H, W) masks, bool or 0/1 numbers.
        target: (B, 1, H, W) masks, bool or 0/1 numbers.
        spacing: (row, column) mm per pixel of the whole batch; distances are in mm then, else in pixels.

    Returns:
        The names above: float64 tensors (B,) on the device of `pred`.

    Raises:
        ValueError: shapes that differ or are not (B, 1, H, W), values other than 0 and 1 (a probability, a logit), or
            a spacing that is not two positive numbers.

    Example:
        >>> pred, target = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
        >>> pred[0, 0, 2:4, 2:6] = 1
        >>> target[0, 0, 2:4, 2:4] = 1
        >>> segmentation_metrics(pred, target)["dice"]  # 2 * 4 / (8 + 4), and two blank masks
        tensor([0.6667,    nan], dtype=torch.float64)
    """
    if pred.shape != target.shape or pred.ndim != 4 or pred.shape[1] != 1:
        raise ValueError(
            f"pred and target must both be (B, 1, H, W), found {tuple(pred.shape)} and {tuple(target.shape)}: "
            "compare one channel at a time, at one size"
        )
    if spacing is not None and not (len(spacing) == 2 and all(0 < side < math.inf for side in spacing)):
        raise ValueError(f"spacing must be two positive numbers (mm per row, mm per column), found {spacing}")
    masks = _binary(pred, "pred"), _binary(target, "target")
    images = [_image_metrics(*pair, spacing) for pair in zip(*masks, strict=True)]
    names = (*MEANS, *COUNTS, *FALSE_POSITIVES)
    return {
        name: torch.tensor([image[name] for image in images], dtype=torch.float64, device=pred.device) for name in names
    }


def summarise(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean of each metric over the images where it is defined, and how many images it left out.

    Args:
        values: per-image values (N,) by name, NaN where undefined.

    Returns:
        `name`: mean over the defined values (NaN when there is none); `name_undefined`: number of NaN.

    Example:
        >>> summarise({"dice": torch.tensor([0.5, 1.0, float("nan")])})
        {'dice': 0.75, 'dice_undefined': 1}
    """
    summary: dict[str, float] = {}
    for name, column in values.items():
        numbers = torch.as_tensor(column, dtype=torch.float64)
        summary[name] = float(numbers.nanmean())
        summary[f"{name}_undefined"] = int(numbers.isnan().sum())
    return summary


def _binary(mask: Tensor, name: str) -> np.ndarray:
    """The masks as bool (B, H, W), refusing anything that is not 0 or 1."""
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"{name} must hold only 0 and 1, found other values: threshold it first")
    return np.asarray(mask.bool()[:, 0].cpu())


def _image_metrics(pred: np.ndarray, target: np.ndarray, spacing: Spacing | None) -> dict[str, float]:
    """All metrics of one image's bool masks (H, W).

    Whatever looks at neighbours sees the bounding box of the union only. That is exact, because all pixels beyond it are
    background, which these functions assume outside of an array.
    """
    box = find_objects((pred | target).view(np.uint8), max_label=1)[0] or NOTHING
    part, truth = pred[box], target[box]
    predicted, actual = int(np.count_nonzero(part)), int(np.count_nonzero(truth))
    return {
        **overlap_metrics(pred, target),
        **outline_metrics(part, truth, spacing),
        "boundary_iou": boundary_iou(part, truth, band_width(pred.shape)),
        **lesion_counts(part, truth),
        "false_positive": NAN if actual else float(predicted > 0),
        "false_positive_area": NAN if actual else predicted / pred.size,
        "false_positive_pixels": NAN if actual else predicted,
    }
