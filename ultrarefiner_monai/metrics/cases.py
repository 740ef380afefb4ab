"""Scores of a whole volume, label by label, and their summary over cases."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ultrarefiner_monai.masks import THRESHOLD
from ultrarefiner_monai.metrics.boundaries import outline_metrics
from ultrarefiner_monai.metrics.classes import class_mask
from ultrarefiner_monai.metrics.overlap import NAN, overlap_metrics

SCORES = ("dice", "hd95", "assd")  # distances in mm
PER_CASE = "per_case.csv"
LESION = {1: "lesion"}

Row = dict[str, Any]


def score_case(
    pred: np.ndarray, truth: np.ndarray, table: Mapping[int, str], spacing: tuple[float, float, float]
) -> dict[str, float]:
    """`<score>_<label>` of each label of a volume, `<score>`, their mean, and the number of labels that are `absent`.

    A label that neither the truth nor the prediction has is NaN, and absent. Where one of them alone has it, its Dice is 0 and
    its distances are NaN. A mean is over the labels that have the score; NaN where none has.

    Args:
        pred: predicted labels (D, H, W).
        truth: true labels (D, H, W).
        table: name of each label by its number, without the background.
        spacing: (slice, row, column) mm per voxel.

    Raises:
        ValueError: shapes that differ.
    """
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape}, truth {truth.shape}: expected one shape")
    row: dict[str, float] = {}
    for number, name in table.items():
        masks = pred == number, truth == number
        scores = outline_metrics(*masks, spacing) | {"dice": overlap_metrics(*masks)["dice"]}
        if not (masks[0].any() or masks[1].any()):
            scores["dice"] = NAN
        row |= {f"{score}_{name}": scores[score] for score in SCORES}
    means = {score: _mean([row[f"{score}_{name}"] for name in table.values()]) for score in SCORES}
    absent = sum(np.isnan(row[f"dice_{name}"]) for name in table.values())
    return means | row | {"absent": int(absent)}


def summarise_cases(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    """Mean of each score over the cases that have it, and their number."""
    names = [name for name in rows[0] if isinstance(rows[0][name], float)] if rows else []
    values = {name: [row[name] for row in rows if not np.isnan(row[name])] for name in names}
    return {name: (_mean(found), len(found)) for name, found in values.items()}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else NAN


class Slice(NamedTuple):
    """The masks of a slice, packed to a bit a pixel until its volume is scored.

    They are those of the C outputs, then of the K `organs` that the last one tells apart, none where there is a lesion alone;
    then the true one, or those of the K organs.
    """

    case: str
    number: int
    spacing: tuple[float, float, float]  # (slice, row, column) mm
    organs: int
    shape: tuple[int, int, int]
    bits: np.ndarray

    @classmethod
    def of(
        cls,
        item: Mapping[Any, Any],
        outputs: np.ndarray,
        classes: np.ndarray,
        truth: np.ndarray,
        threshold: float = THRESHOLD,
    ) -> Self:
        """The slice that `item` is.

        Args:
            item: of a plan, whose classes are organs where it names them (`organs`).
            outputs: (C, H, W) probability of any label by each output.
            classes: (K, H, W) probability of each class by the last of them.
            truth: (H, W) the organs' numbers 1..K, or where the lesion is.
            threshold: probability from which a pixel is of a label.
        """
        organs = len(classes) if "organs" in item else 0
        masks = [outputs >= threshold]
        if organs:
            numbers = np.arange(1, 1 + organs)[:, None, None]
            masks += [class_mask(outputs[-1], classes, threshold) == numbers, truth == numbers]
        else:
            masks.append(truth[None] > 0)
        every = np.concatenate(masks)
        row, column = (float(side) for side in item["spacing"])
        spacing = float(item["slice_spacing"]), row, column
        count, height, width = every.shape
        place = str(item["case"]), int(item["slice"]), spacing
        return cls(*place, organs, (count, height, width), np.packbits(every))

    @property
    def masks(self) -> np.ndarray:
        """The masks as they were, bool (N, H, W)."""
        return np.unpackbits(self.bits, count=math.prod(self.shape)).reshape(self.shape).astype(bool)


def case_rows(slices: Iterable[Slice], outputs: Sequence[str], classes: Sequence[str] = ()) -> list[Row]:
    """A row a case, `case`, `slices` and `<output>_` with each of `score_case`, sorted by case, from its lesions' slices.

    Where the classes are organs the lesion is any of them; of the last output, which tells them, there are `<score>_<organ>` of
    each, `organs_<score>`, their mean, and `organs_absent`, too. A slice that comes twice, as where a sampler pads the shares of
    several processes, counts once.
    """
    by_case: dict[str, dict[int, Slice]] = {}
    for one in slices:
        by_case.setdefault(one.case, {})[one.number] = one
    rows: list[Row] = []
    for case, found in sorted(by_case.items()):
        ordered = [found[number] for number in sorted(found)]
        spacing, organs = ordered[0].spacing, ordered[0].organs
        masks = np.stack([one.masks for one in ordered], axis=1)  # (N, D, H, W)
        preds, told, true = np.split(masks, [len(outputs), len(outputs) + organs])
        row: Row = {"case": case, "slices": len(ordered)}
        lesion = np.any(true, axis=0)
        for output, pred in zip(outputs, preds, strict=True):
            scores = score_case(pred, lesion, LESION, spacing)
            row |= {f"{output}_{name}": value for name, value in scores.items()}
        if organs:
            scores = score_case(_numbered(told), _numbered(true), dict(enumerate(classes, 1)), spacing)
            names = {name: f"organs_{name}" for name in (*SCORES, "absent")}
            row |= {f"{outputs[-1]}_{names.get(name, name)}": value for name, value in scores.items()}
        rows.append(row)
    return rows


def _numbered(masks: np.ndarray) -> np.ndarray:
    """Masks bool (K, ...) of which no two have a place in common as the numbers 1..K, 0 where none is: uint8 (...)."""
    return np.where(masks.any(0), 1 + masks.argmax(0), 0).astype(np.uint8)
