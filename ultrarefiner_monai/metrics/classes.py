"""Scores of masks and images whose class is told: Dice of each class, and how often the image's class is right.

An image has one class, and all its lesions are of it. The probabilities of the classes sum to that of a lesion. Columns are
those of the output that tells them: `<output>_dice_<class>`, `<output>_probability_<class>`, `<output>_class`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.metrics.overlap import overlap_metrics

FOUND, PROBABILITY = "_class", "_probability_"

Row = Mapping[str, Any]


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
        lesion: (H, W) probability of a lesion of any class, or its mask, bool.
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
        true_class: of the image.
        threshold: probability from which a pixel is lesion.

    Returns:
        `<output>_dice_<class>` of the `class_mask`, NaN where neither truth nor prediction has any of that class, and where
        the lesions are of another class than the K, of which nothing can be right or wrong;
        `<output>_probability_<class>` of the image; `<output>_class`, the likeliest.
    """
    if not names:
        return {}
    told = class_mask(lesion, classes, threshold)
    probability = class_probability(lesion, classes)
    row: dict[str, Any] = {}
    for number, name in enumerate(names):
        expected = truth > 0 if name == true_class else np.zeros(truth.shape, dtype=bool)
        dice = overlap_metrics(told == number + 1, expected)["dice"]
        row[f"{output}_dice_{name}"] = dice if true_class in names or not truth.any() else math.nan
        row[f"{output}{PROBABILITY}{name}"] = float(probability[number])
    return row | {f"{output}{FOUND}": names[int(probability.argmax())]}


def classes_of(columns: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The output that tells classes and their names, in their order, by the columns of a row; both empty where none does."""
    found = [name.split(PROBABILITY, 1) for name in columns if PROBABILITY in name]
    return (found[0][0], tuple(name for _, name in found)) if found else ("", ())


class Told(NamedTuple):
    """What the classes of N images are, and what was found."""

    true: np.ndarray  # (N,) number of the class, 0..K-1
    found: np.ndarray  # (N,)
    probability: np.ndarray  # (N, K)


def known_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows that rates are of: of images whose class is one of those told apart, and in which one was found."""
    output, names = classes_of(rows[0] if rows else ())
    return [row for row in rows if row["class"] in names and row[f"{output}{FOUND}"] in names]


def needed_columns(columns: Iterable[str]) -> set[str]:
    """All columns of `score_classes` that there are where one of them is; none where no classes are told apart."""
    output, names = classes_of(columns)
    each = (f"{output}{part}{name}" for part in (PROBABILITY, "_dice_") for name in names)
    return {*each, f"{output}{FOUND}"} if names else set()


def told(rows: Sequence[Row]) -> Told:
    """Classes of the `known_rows` among `rows` as numbers."""
    output, names = classes_of(rows[0] if rows else ())
    known = known_rows(rows)
    true, found = ([names.index(row[name]) for row in known] for name in ("class", f"{output}{FOUND}"))
    probability = [[row[f"{output}{PROBABILITY}{name}"] for name in names] for row in known]
    shape = (len(known), len(names))
    return Told(
        np.array(true, dtype=int), np.array(found, dtype=int), np.array(probability, dtype=float).reshape(shape)
    )


def accuracy(images: Told, weights: np.ndarray) -> np.ndarray:
    """Share of the images whose class is right (...), each counted as often as `weights` (..., N) say; NaN of none."""
    right = (images.true == images.found).astype(float)
    with np.errstate(invalid="ignore"):
        return weights @ right / weights.sum(-1)


def balanced_accuracy(images: Told, weights: np.ndarray) -> np.ndarray:
    """Mean (...) of the classes' recalls, over the classes that there are; `weights` as in `accuracy`."""
    of_class = (images.true[:, None] == np.arange(images.probability.shape[1])).astype(float)
    counts, right = weights @ of_class, weights @ (of_class * (images.true == images.found)[:, None])
    recalls = np.divide(right, counts, out=np.zeros_like(right), where=counts > 0)
    with np.errstate(invalid="ignore"):
        return recalls.sum(-1) / (counts > 0).sum(-1)


def auc(images: Told, weights: np.ndarray) -> np.ndarray:
    """Area (...) under the ROC curve of the last of two classes, of more the mean of each against the rest.

    NaN where one of them has no image; `weights` as in `accuracy`.
    """
    classes = images.probability.shape[1]
    asked = range(1, 2) if classes == 2 else range(classes)
    areas = [_area(images.probability[:, number], images.true == number, weights) for number in asked]
    return np.mean(areas, axis=0)


def _area(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the pairs of a positive and a negative that `score` puts in order, a tie being half a pair (Mann-Whitney)."""
    order = np.argsort(score)
    ties = np.flatnonzero(np.diff(score[order], prepend=-np.inf))  # where each value begins
    ups, downs = (np.add.reduceat(weights[..., order] * which[order], ties, axis=-1) for which in (positive, ~positive))
    below = downs.cumsum(-1) - downs / 2
    with np.errstate(invalid="ignore"):
        return (ups * below).sum(-1) / (ups.sum(-1) * downs.sum(-1))


RATES: Mapping[str, Callable[[Told, np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auc": auc,
}


def class_columns(output: str, names: Sequence[str]) -> dict[str, str]:
    """The scores in `summarise_classes` of the classes that an output tells apart, each with the column of its images' count."""
    if not names:
        return {}
    rates = {f"{output}_{rate}": f"n_{rate}" for rate in RATES}
    return rates | {f"{output}_dice_{name}": f"n_dice_{name}" for name in names}


def row_columns(columns: Iterable[str]) -> set[str]:
    """The columns that `score_classes` writes into such rows; empty where no classes are told apart."""
    output, names = classes_of(columns)
    of_classes = {f"{output}{kind}{name}" for kind in ("_dice_", PROBABILITY) for name in names}
    return of_classes | {f"{output}{FOUND}"} if names else set()


def summarise_classes(rows: Sequence[Row]) -> dict[str, float]:
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
    images = told(rows)
    weights = np.ones(len(images.true))
    summary = {f"{output}_{name}": float(rate(images, weights)) for name, rate in RATES.items()}
    summary |= {f"n_{name}": len(weights) for name in RATES}
    for name in names:
        dice = np.array([row[f"{output}_dice_{name}"] for row in rows], dtype=float)
        defined = dice[~np.isnan(dice)]
        summary[f"{output}_dice_{name}"] = float(defined.mean()) if len(defined) else math.nan
        summary[f"n_dice_{name}"] = len(defined)
    return summary
