"""What two masks have in common, from numbers of pixels."""

import numpy as np

NAN = float("nan")


def overlap_metrics(pred: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """`dice`, `iou`, `precision`, `recall` and `specificity` of two bool masks (H, W); NaN where undefined."""
    both, predicted, actual = (int(np.count_nonzero(mask)) for mask in (pred & target, pred, target))
    either = predicted + actual - both
    return {
        "dice": _ratio(2 * both, predicted + actual),
        "iou": _ratio(both, either),
        "precision": _ratio(both, predicted),
        "recall": _ratio(both, actual),
        "specificity": _ratio(pred.size - either, pred.size - actual),
    }


def _ratio(part: int, whole: int) -> float:
    """`part / whole`, undefined where there is no whole."""
    return part / whole if whole else NAN
