"""Blank truths, blank predictions and both: Dice, IoU, HD95 and the others by the written table, each counted."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from squares import square, value

from ultrarefiner_monai.metrics import segmentation_metrics, summarise
from ultrarefiner_monai.metrics.segmentation import COUNTS, FALSE_POSITIVES, MEANS

pytestmark = pytest.mark.fault(16)
TABLES = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
MASKS = {"blank": square(0, 0, 0), "full": torch.ones(1, 1, 32, 40, dtype=torch.bool)}
MASKS |= {"lesion": square(4, 4, 6)}


def documented() -> list[tuple[str, str, dict[str, str]]]:
    """(prediction, truth, metric -> entry) of each row of the tables of empty cases."""
    rows, names = [], []
    for line in TABLES.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[:2] == ["prediction", "truth"]:
            names = cells[2:]
        elif names and cells[0] in MASKS:
            rows.append((cells[0], cells[1], dict(zip(names, cells[2:], strict=True))))
    return rows


def test_the_tables_hold_every_case_of_every_metric():
    cases = [(pred, truth, name) for pred, truth, entries in documented() for name in entries]
    assert sorted(cases) == sorted(product(MASKS, MASKS, (*MEANS, *COUNTS, *FALSE_POSITIVES)))


@pytest.mark.parametrize(("prediction", "truth", "entries"), documented())
def test_the_table_of_empty_cases(prediction, truth, entries):
    shift = 2 if prediction == truth == "lesion" else 0  # a perfect prediction would make the values ones and zeros
    found = value(MASKS[prediction], MASKS[truth].roll(shift, -1))
    for name, entry in entries.items():
        if entry == "value":
            assert math.isfinite(found[name]), name
        else:
            assert found[name] == pytest.approx(float(entry), nan_ok=True), name


def test_a_blank_image_in_a_batch_leaves_the_others_alone():
    blank = square(0, 0, 0)
    pred = torch.cat([square(5, 8, 10), blank, square(3, 3, 4), blank])
    target = torch.cat([square(5, 12, 10), square(5, 12, 10), blank, blank])
    found = segmentation_metrics(pred, target)
    assert found["dice"][:3].tolist() == pytest.approx([0.6, 0.0, 0.0])
    assert found["hd95"].isnan().tolist() == [False, True, True, True]
    assert found["false_positive"].tolist() == pytest.approx([math.nan, math.nan, 1, 0], nan_ok=True)
    assert summarise(found)["dice"] == pytest.approx(0.2)  # mean of the three defined, not of four
    assert summarise(found)["dice_undefined"] == 1
    assert summarise(found)["hd95_undefined"] == 3


def test_none_is_dropped_in_silence():
    """Of four images IoU is undefined in one, HD95 in three, and the summary says so."""
    blank = square(0, 0, 0)
    pred = torch.cat([square(5, 8, 10), blank, square(3, 3, 4), blank])
    target = torch.cat([square(5, 12, 10), square(5, 12, 10), blank, blank])
    found = summarise(segmentation_metrics(pred, target))
    assert found["iou"] == pytest.approx(60 / 140 / 3) and found["iou_undefined"] == 1
    assert found["hd95"] == pytest.approx(4) and found["hd95_undefined"] == 3
