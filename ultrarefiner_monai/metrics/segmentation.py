"""Overlap and boundary metrics of binary masks, image by image."""

import warnings
from collections.abc import Mapping

import torch
from monai.metrics import compute_hausdorff_distance
from torch import Tensor


def segmentation_metrics(pred: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Compare each predicted mask of a batch with its truth.

    Dice = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN), precision = TP / (TP + FP), recall = TP / (TP + FN), from
    pixel counts. ``hd95`` (pixels, spacing 1) is the 95 % Hausdorff distance as `monai.metrics` computes it: the larger
    of the two directed 95th percentiles (linear interpolation) of the distances from one mask's edge pixels to the
    other's.

    What is undefined is NaN, never 0 or 1; `summarise` counts it:

    =========== ======== ====== ===== =========== ======== =====
    prediction  truth    dice   iou   precision   recall   hd95
    =========== ======== ====== ===== =========== ======== =====
    blank       blank    NaN    NaN   NaN         NaN      NaN
    blank       lesion   0      0     NaN         0        NaN
    lesion      blank    0      0     0           NaN      NaN
    lesion      lesion   value  value value       value    value
    =========== ======== ====== ===== =========== ======== =====

    Args:
        pred: (B, 1, H, W) masks, bool or 0/1 numbers.
        target: (B, 1, H, W) masks, bool or 0/1 numbers.

    Returns:
        ``dice``, ``iou``, ``precision``, ``recall``, ``hd95``: float32 tensors (B,) on the device of ``pred``.

    Raises:
        ValueError: shapes that differ or are not (B, 1, H, W), or values other than 0 and 1 (a probability, a logit).
    """
    if pred.shape != target.shape or pred.ndim != 4 or pred.shape[1] != 1:
        raise ValueError(
            f"pred and target must both be (B, 1, H, W), found {tuple(pred.shape)} and {tuple(target.shape)}: "
            "compare one channel at a time, at one size"
        )
    pred, target = _binary(pred, "pred"), _binary(target, "target").to(pred.device)
    true_positive = (pred & target).sum((1, 2, 3)).float()
    predicted, actual = pred.sum((1, 2, 3)).float(), target.sum((1, 2, 3)).float()
    return {
        # 0 / 0 is NaN in floating point: exactly the table's undefined cases.
        "dice": 2 * true_positive / (predicted + actual),
        "iou": true_positive / (predicted + actual - true_positive),
        "precision": true_positive / predicted,
        "recall": true_positive / actual,
        "hd95": _hausdorff95(pred, target),
    }


def summarise(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean of each metric over the images where it is defined, and how many images it left out.

    Args:
        values: per-image values (N,) by name, NaN where undefined.

    Returns:
        ``name``: mean over the defined values (NaN when there is none); ``name_undefined``: number of NaN.
    """
    summary: dict[str, float] = {}
    for name, column in values.items():
        numbers = torch.as_tensor(column, dtype=torch.float64)
        summary[name] = float(numbers.nanmean())
        summary[f"{name}_undefined"] = int(numbers.isnan().sum())
    return summary


def _binary(mask: Tensor, name: str) -> Tensor:
    """The mask as bool, refusing anything that is not 0 or 1."""
    if mask.dtype == torch.bool:
        return mask
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"{name} must hold only 0 and 1, found other values: threshold it first")
    return mask.bool()


def _hausdorff95(pred: Tensor, target: Tensor) -> Tensor:
    """95 % Hausdorff distances (B,) in pixels of (B, 1, H, W) bool masks; NaN where either is blank."""
    distances = torch.full((len(pred),), float("nan"), device=pred.device)
    defined = pred.flatten(1).any(1) & target.flatten(1).any(1)
    if defined.any():
        with warnings.catch_warnings():
            # MONAI 1.6 warns of an argument that it passes to itself.
            warnings.simplefilter("ignore", FutureWarning)
            found = compute_hausdorff_distance(pred[defined], target[defined], include_background=True, percentile=95)
        distances[defined] = found[:, 0].to(distances)
    return distances
