"""Lesions as objects: how many were found, and how many findings are none."""

import numpy as np
from scipy.ndimage import label
from skimage.metrics import contingency_table

# A finding and a lesion match from this IoU on: detection asks for a coarse position, the outline has its own metrics
# (Jaeger et al. 2020, "Retina U-Net", whose toolkit scores 2-D and 3-D findings at ap_match_ious = [0.1]).
MATCH_IOU = 0.1
EIGHT = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner belong together


def lesion_counts(pred: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Match the connected components (8 neighbours) of two bool masks (H, W).

    Returns:
        `lesions`: components of `target`; `lesions_found`: those that some component of `pred` meets with an
        IoU of at least 0.1; `false_lesions`: components of `pred` that meet no lesion so. A component may meet
        several lesions, and the other way round. Always defined; 0 for a blank mask.
    """
    (predicted, findings), (actual, lesions) = label(pred, EIGHT), label(target, EIGHT)
    shared = contingency_table(actual, predicted).tocoo()  # pixels of each pair of labels, of the pairs that meet
    of_actual, of_predicted = np.bincount(actual.ravel()), np.bincount(predicted.ravel())
    iou = shared.data / (of_actual[shared.row] + of_predicted[shared.col] - shared.data)
    match = (iou >= MATCH_IOU) & (shared.row > 0) & (shared.col > 0)  # label 0 is background
    found, matched = np.unique(shared.row[match]).size, np.unique(shared.col[match]).size
    return {"lesions": lesions, "lesions_found": found, "false_lesions": findings - matched}
