"""Scores of a whole volume, label by label, and their summary over cases."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ultrarefiner_monai.metrics.boundaries import outline_metrics
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
    """The masks of a slice, packed to a bit a pixel until its volume is scored: the outputs', then the true one."""

    case: str
    number: int
    spacing: tuple[float, float, float]  # (slice, row, column) mm
    shape: tuple[int, int, int]
    bits: np.ndarray

    @classmethod
    def of(cls, item: Mapping[Any, Any], masks: np.ndarray) -> Self:
        """The slice that `item` is, with masks bool (1 + outputs, H, W)."""
        row, column = (float(side) for side in item["spacing"])
        spacing = float(item["slice_spacing"]), row, column
        count, height, width = masks.shape
        return cls(str(item["case"]), int(item["slice"]), spacing, (count, height, width), np.packbits(masks))

    @property
    def masks(self) -> np.ndarray:
        """The masks as they were."""
        return np.unpackbits(self.bits, count=math.prod(self.shape)).reshape(self.shape)


def case_rows(slices: Iterable[Slice], outputs: Sequence[str]) -> list[Row]:
    """A row a case, `case`, `slices` and `<output>_` with each of `score_case`, sorted by case, from its lesions' slices.

    A slice that comes twice, as where a sampler pads the shares of several processes, counts once.
    """
    by_case: dict[str, dict[int, Slice]] = {}
    for one in slices:
        by_case.setdefault(one.case, {})[one.number] = one
    rows: list[Row] = []
    for case, found in sorted(by_case.items()):
        ordered = [found[number] for number in sorted(found)]
        *preds, truth = np.stack([one.masks for one in ordered], axis=1)
        row: Row = {"case": case, "slices": len(ordered)}
        for output, pred in zip(outputs, preds, strict=True):
            scores = score_case(pred, truth, LESION, ordered[0].spacing)
            row |= {f"{output}_{name}": value for name, value in scores.items()}
        rows.append(row)
    return rows
