"""Scores of masks and images whose class is told: Dice of each class, and how often the image's class is right.

An image has one class, and all its lesions are of it. The probabilities of the classes sum to that of a lesion. Columns are
those of the output that tells them: `<output>_dice_<class>`, `<output>_probability_<class>`, `<output>_class`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.metrics.overlap import overlap_metrics

RATES = ("accuracy", "balanced_accuracy", "auc")
FOUND, PROBABILITY = "_class", "_probability_"


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


def image_class(lesion: np.ndarray, classes: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """`class`, the likeliest of the image, and its `class_probability`; nothing where none are told apart.

    Args:
        lesion: (H, W) probability of a lesion of any class.
        classes: name of each class -> its probability (H, W).
    """
    if not classes:
        return {}
    probability = class_probability(lesion, np.stack(list(classes.values())))
    likeliest = int(probability.argmax())
    return {"class": list(classes)[likeliest], "class_probability": float(probability[likeliest])}


def class_mask(lesion: np.ndarray, classes: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Mask (H, W) uint8 of the classes' numbers 1..K, each pixel of the lesion's mask having its likeliest class, and 0.

    Args:
        lesion: (H, W) probability of a lesion of any class.
        classes: (K, H, W) probability of each class.
        threshold: probability from which a pixel is lesion.
    """
    return np.where(lesion >= threshold, 1 + classes.argmax(0), 0).astype(np.uint8)


def score_classes(
    output: str,
    lesion: np.ndarray,
    classes: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
    true_class: str | None,
    threshold: float = THRESHOLD,
) -> dict[str, Any]:
    """What an image's row says of its classes; nothing where none are told apart.

    Args:
        output: what tells them.
        lesion: (H, W) probability of a lesion of any class.
        classes: (K, H, W) probability of each class.
        truth: (H, W) mask of the lesions.
        names: of the K classes.
        true_class: of the image; of another class than the K, nothing can be right.
        threshold: probability from which a pixel is lesion.

    Returns:
        `<output>_dice_<class>` of the `class_mask`, NaN where neither truth nor prediction has any of that class;
        `<output>_probability_<class>` of the image; `<output>_class`, the likeliest.
    """
    if not names:
        return {}
    told = class_mask(lesion, classes, threshold)
    probability = class_probability(lesion, classes)
    row: dict[str, Any] = {}
    for number, name in enumerate(names):
        expected = truth > 0 if name == true_class else np.zeros(truth.shape, dtype=bool)
        row[f"{output}_dice_{name}"] = overlap_metrics(told == number + 1, expected)["dice"]
        row[f"{output}{PROBABILITY}{name}"] = float(probability[number])
    return row | {f"{output}{FOUND}": names[int(probability.argmax())]}


def classes_of(columns: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The output that tells classes and their names, in their order, by the columns of a row; both empty where none does."""
    found = [name.split(PROBABILITY, 1) for name in columns if PROBABILITY in name]
    return (found[0][0], tuple(name for _, name in found)) if found else ("", ())


def class_columns(columns: Iterable[str]) -> set[str]:
    """The columns that `score_classes` writes into such rows; empty where no classes are told apart."""
    output, names = classes_of(columns)
    told = {f"{output}{kind}{name}" for kind in ("_dice_", PROBABILITY) for name in names}
    return told | {f"{output}{FOUND}"} if names else set()


def summarise_classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How often the images' classes are right, and the mean Dice of each class; nothing where no classes are told apart.

    Args:
        rows: of `score_classes`, with `class`; those of a class that is not told apart count in no rate.

    Returns:
        `<output>_accuracy`, `<output>_balanced_accuracy` (mean recall of the classes that there are) and `<output>_auc` over
        `n_accuracy` (and the like) images, NaN where they are not defined: the area under the ROC curve of the last class
        against the first of two, of more the mean over the classes of each against the rest. `<output>_dice_<class>` over
        the `n_dice_<class>` images where it is defined.
    """
    output, names = classes_of(rows[0] if rows else ())
    if not names:
        return {}
    known = [row for row in rows if row["class"] in names]
    summary = {f"{output}_{rate}": value for rate, value in _rates(output, names, known).items()}
    summary |= {f"n_{rate}": float(len(known)) for rate in RATES}
    for name in names:
        dice = np.array([row[f"{output}_dice_{name}"] for row in rows], dtype=float)
        defined = dice[~np.isnan(dice)]
        summary[f"{output}_dice_{name}"] = float(defined.mean()) if len(defined) else math.nan
        summary[f"n_dice_{name}"] = float(len(defined))
    return summary


def _rates(output: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    true = np.array([names.index(row["class"]) for row in rows], dtype=int)
    right = np.array([row[f"{output}{FOUND}"] == row["class"] for row in rows], dtype=bool)
    recalls = [right[true == number].mean() for number in np.unique(true)]
    rates = dict.fromkeys(RATES, math.nan)
    if recalls:
        rates |= {"accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recalls))}
    if len(recalls) == len(names):
        probability = np.array([[row[f"{output}{PROBABILITY}{name}"] for name in names] for row in rows])
        asked = range(1, 2) if len(names) == 2 else range(len(names))
        rates["auc"] = float(np.mean([roc_auc_score(true == number, probability[:, number]) for number in asked]))
    return rates
