"""Overlap of masks counted by hand."""

import math

import numpy as np
import pytest

from ultrarefiner_monai.metrics import overlap_metrics

MASKS = {"blank": [0, 0, 0, 0, 0], "left": [1, 1, 0, 0, 0], "middle": [0, 1, 1, 1, 0]}


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        ("left", "middle", {"dice": 2 / 5, "iou": 1 / 4, "precision": 1 / 2, "recall": 1 / 3, "specificity": 1 / 2}),
        ("blank", "left", {"dice": 0, "iou": 0, "precision": math.nan, "recall": 0, "specificity": 1}),
        ("left", "blank", {"dice": 0, "iou": 0, "precision": 0, "recall": math.nan, "specificity": 3 / 5}),
    ],
)
def test_counts(pred, target, expected):
    found = overlap_metrics(*(np.array([MASKS[name]], dtype=bool) for name in (pred, target)))
    assert found == pytest.approx(expected, nan_ok=True)
