"""Scores of masks and images whose class is told: Dice of each class, and how often the image's class is right.

An image has one class, and all its lesions are of it. Probabilities are those of a softmax over background and classes, so
that the background's is one minus the lesion's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.metrics.overlap import overlap_metrics


def class_probability(lesion: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How likely each class is for the image, (K,), which sums to one; equal where nothing speaks for any.

    Args:
        lesion: (H, W) probability of a lesion of any class.
        classes: (K, H, W) probability of each class.

    Returns:
        The mean of each class's probability over the lesion (at least a half), or where there is none its maximum.
    """
    where = lesion >= THRESHOLD
    evidence = classes[:, where].mean(1) if where.any() else classes.max((1, 2))
    total = evidence.sum()
    return evidence / total if total > 0 else np.full(len(classes), 1 / len(classes))


def score_classes(
    lesion: np.ndarray, classes: np.ndarray, truth: np.ndarray, names: Sequence[str], true_class: str
) -> dict[str, Any]:
    """What an image's row says of its classes.

    Args:
        lesion: (H, W) probability of a lesion of any class.
        classes: (K, H, W) probability of each class.
        truth: (H, W) mask of the lesions.
        names: of the K classes.
        true_class: of the image; of another class than the K, nothing can be right.

    Returns:
        `dice_<class>` of the pixels where that class is the likeliest of background and classes, NaN where neither truth nor
        prediction has any; `probability_<class>` of the image; `class_found`, the likeliest of the image.
    """
    likeliest = np.concatenate([1 - lesion[None], classes]).argmax(0)
    probability = class_probability(lesion, classes)
    row: dict[str, Any] = {}
    for number, name in enumerate(names):
        expected = truth if name == true_class else np.zeros_like(truth)
        row[f"dice_{name}"] = overlap_metrics(likeliest == number + 1, expected)["dice"]
        row[f"probability_{name}"] = float(probability[number])
    return row | {"class_found": names[int(probability.argmax())]}


def summarise_classes(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Accuracy, balanced accuracy and area under the ROC curve of the images' classes.

    Args:
        rows: with `class`, `class_found` and `probability_<class>`; those of a class that is not among `names` are left out.
        names: of the classes. The curve of two is that of the last against the first, that of more the mean over the classes
            of each against the rest (Hand and Till would average over pairs).

    Returns:
        `accuracy`, `balanced_accuracy` (mean recall of the classes that there are) and `auc`, NaN where they are not defined;
        `n_class` is the number of images.
    """
    from sklearn.metrics import roc_auc_score

    known = [row for row in rows if row["class"] in names]
    true = np.array([names.index(row["class"]) for row in known], dtype=int)
    found = np.array([names.index(row["class_found"]) for row in known], dtype=int)
    right = true == found
    recalls = [right[true == number].mean() for number in np.unique(true)]
    summary = {"n_class": float(len(known)), "auc": math.nan}
    summary["accuracy"] = float(right.mean()) if len(known) else math.nan
    summary["balanced_accuracy"] = float(np.mean(recalls)) if recalls else math.nan
    if len(recalls) == len(names) > 1:
        probability = np.array([[row[f"probability_{name}"] for name in names] for row in known])
        asked = range(1, 2) if len(names) == 2 else range(len(names))
        summary["auc"] = float(np.mean([roc_auc_score(true == number, probability[:, number]) for number in asked]))
    return summary
