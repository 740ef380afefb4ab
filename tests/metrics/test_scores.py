"""Columns by output; scores of images and their summary are tested where they are used, in tests/handlers/test_comparison.py."""

import pytest

from ultrarefiner_monai.metrics.scores import outputs_of, short_columns, summarise_rows


def test_outputs_are_what_has_a_dice_in_order_without_the_difference():
    names = ["id", "unet_dice", "step1_dice", "step2_dice", "unet_iou", "delta_dice", "unet_dice_undefined"]
    assert outputs_of(names) == ["unet", "step1", "step2"]
    assert outputs_of({"mask_dice": 0.5, "mask_dice_benign": 0.4}) == ["mask"]


def test_short_columns_are_by_metric_with_the_change_of_dice():
    assert [f"{output}_{metric}" for output, metric in short_columns(["coarse", "refined"])] == [
        "coarse_dice", "refined_dice", "delta_dice", "coarse_iou", "refined_iou", "coarse_hd95", "refined_hd95",
    ]  # fmt: skip
    assert short_columns(["mask"]) == [("mask", "dice"), ("mask", "iou"), ("mask", "hd95")]


@pytest.mark.parametrize(("last", "changed"), [(None, None), (0.75, 0.25)])
def test_a_difference_needs_two_outputs_and_leaves_out_those_between(last, changed):
    row = {"mask_dice": 0.5} if last is None else {"mask_dice": 0.5, "middle_dice": 0.1, "last_dice": last}
    summary = summarise_rows([row])
    assert summary.get("delta_dice") == changed and ("better_share" in summary) == (last is not None)
    assert summary["mask_dice"] == 0.5 and summary.get("middle_dice", 0.1) == 0.1
