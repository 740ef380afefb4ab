"""Columns by output; scores of images and their summary are tested where they are used, in tests/handlers/test_comparison.py."""

import math

import pytest

from ultrarefiner_monai.metrics.scores import outputs_of, over_folds, short_columns, summarise_rows, told_columns


def test_outputs_are_what_has_a_dice_in_order_without_the_difference():
    names = ["id", "unet_dice", "step1_dice", "step2_dice", "unet_iou", "delta_dice", "unet_dice_undefined"]
    assert outputs_of(names) == ["unet", "step1", "step2"]
    assert outputs_of({"mask_dice": 0.5, "mask_dice_benign": 0.4}) == ["mask"]


def test_short_columns_are_by_metric_with_the_change_of_dice():
    assert [f"{output}_{metric}" for output, metric in short_columns(["coarse", "refined"])] == [
        "coarse_dice", "refined_dice", "delta_dice", "n_dice",
        "coarse_iou", "refined_iou", "n_iou", "coarse_hd95", "refined_hd95", "n_hd95",
    ]  # fmt: skip
    assert short_columns(["mask"])[:3] == [("mask", "dice"), ("n", "dice"), ("mask", "iou")]


def test_a_count_is_told_where_it_is_not_that_of_the_images_and_always_of_hd95():
    line = {"images": 3, "mask_dice": 0.5, "n_dice": 3, "mask_iou": 0.4, "n_iou": 3, "mask_hd95": 2.0, "n_hd95": 3}
    assert told_columns([line]) == [("mask", "dice"), ("mask", "iou"), ("mask", "hd95"), ("n", "hd95")]
    assert ("n", "dice") in told_columns([line, line | {"n_dice": 2}])
    assert told_columns([]) == []


def test_over_folds_by_hand():
    lines = [{"images": 3, "x_dice": 0.5, "n_dice": 3}, {"images": 2, "x_dice": 0.7, "n_dice": 1}]
    lines.append({"images": 4, "x_dice": math.nan, "n_dice": 0})
    mean, sd = over_folds(lines, ("x_dice", "n_dice"))
    assert mean == {"fold": "mean", "images": 9, "n_dice": 4, "x_dice": pytest.approx(0.6)}
    assert sd["x_dice"] == pytest.approx(math.sqrt(0.02))
    assert over_folds(lines[:1], ("x_dice",)) == []
    assert math.isnan(over_folds(lines[1:], ("x_dice",))[1]["x_dice"])  # one fold has no deviation


@pytest.mark.parametrize(("last", "changed"), [(None, None), (0.75, 0.25)])
def test_a_difference_needs_two_outputs_and_leaves_out_those_between(last, changed):
    row = {"mask_dice": 0.5} if last is None else {"mask_dice": 0.5, "middle_dice": 0.1, "last_dice": last}
    summary = summarise_rows([row])
    assert summary.get("delta_dice") == changed and ("better_share" in summary) == (last is not None)
    assert summary["mask_dice"] == 0.5 and summary.get("middle_dice", 0.1) == 0.1
