import math

import numpy as np
import pytest
from made_volumes import case

from ultrarefiner_monai.metrics.cases import Slice, case_rows, score_case, summarise_cases

TABLE = {1: "liver", 2: "spleen", 3: "aorta"}


def test_the_truth_against_itself_is_perfect_and_an_absent_label_is_undefined() -> None:
    labels = case(1)[1].T
    row = score_case(labels, labels, TABLE, (4.0, 1.2, 1.5))
    assert row["dice"] == row["dice_liver"] == row["dice_spleen"] == 1
    assert row["hd95"] == row["assd_liver"] == 0
    assert math.isnan(row["dice_aorta"]) and math.isnan(row["hd95_aorta"])
    assert row["absent"] == 1


def test_hand_computed_scores_in_mm() -> None:
    truth, pred = np.zeros((2, 8, 8, 8), np.uint8)
    truth[2:4, 2:6, 2:6] = 1
    pred[3:5, 2:6, 2:6] = 1  # one slice of 5 mm higher: half of the voxels are shared
    pred[0, 0, 0] = 2
    row = score_case(pred, truth, TABLE, (5.0, 1.0, 1.0))
    assert row["dice_liver"] == pytest.approx(0.5)
    assert row["hd95_liver"] == pytest.approx(5)
    assert row["dice_spleen"] == 0
    assert row["dice"] == pytest.approx(0.25)  # of liver and spleen
    assert row["hd95"] == pytest.approx(5)  # of liver alone


def test_swapped_labels_swap_their_columns() -> None:
    labels = case(1)[1].T
    worse = labels.copy()
    worse[:6][worse[:6] == 1] = 0
    swap = np.array([0, 2, 1], np.uint8)
    row, swapped = (score_case(w, t, TABLE, (4, 1, 1)) for w, t in ((worse, labels), (swap[worse], swap[labels])))
    assert 0 < row["dice_liver"] < row["dice_spleen"] == 1
    assert (swapped["dice_spleen"], swapped["dice_liver"]) == (row["dice_liver"], row["dice_spleen"])


def test_means_are_over_the_cases_that_have_the_score() -> None:
    rows = [{"case": "a", "dice": 1.0, "absent": 0}, {"case": "b", "dice": math.nan, "absent": 1}]
    assert summarise_cases(rows) == {"dice": (1.0, 1)}


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        score_case(np.zeros((1, 2, 3)), np.zeros((1, 2, 4)), TABLE, (1, 1, 1))


def test_slices_become_the_row_of_their_case_in_any_order_and_once_each() -> None:
    truth = np.zeros((3, 4, 5), bool)
    truth[1:, 1:3, 1:4] = True
    pred = truth.copy()
    pred[0, 0, 0] = True  # 13 voxels, 12 of which are true
    item = {"case": "a", "spacing": [1.0, 2.0], "slice_spacing": 3.0}
    none = np.zeros((0, 4, 5))
    slices = [Slice.of({**item, "slice": k}, np.stack([truth[k], pred[k]]), none, truth[k]) for k in (2, 0, 1, 1)]
    (row,) = case_rows(slices, ("first", "last"))
    assert (row["case"], row["slices"], row["first_dice"], row["first_hd95"]) == ("a", 3, 1, 0)
    assert row["last_dice"] == row["last_dice_lesion"] == pytest.approx(24 / 25)


def test_organs_of_the_last_output_have_scores_of_their_own() -> None:
    """Two organs, one of which the last output takes for the other: as a lesion all is right, as organs half."""
    truth = np.zeros((3, 4, 6), np.uint8)
    truth[:, 1:3, 0:2], truth[:, 1:3, 4:6] = 1, 2
    item = {"case": "a", "spacing": [1.0, 1.0], "slice_spacing": 2.0, "organs": [5, 7]}
    probability = np.where(truth > 0, 0.9, 0.1)[None].repeat(2, 0)
    slices = []
    for k in range(3):
        organs = np.stack([np.full((4, 6), 0.6), np.full((4, 6), 0.3)])  # all is the first
        slices.append(Slice.of({**item, "slice": k}, probability[:, k], organs, truth[k]))
    (row,) = case_rows(slices, ("unet", "step2"), ("liver", "spleen"))
    assert row["unet_dice"] == row["step2_dice"] == row["step2_dice_lesion"] == 1
    assert row["step2_dice_liver"] == pytest.approx(2 * 12 / (24 + 12)) and row["step2_dice_spleen"] == 0
    assert row["step2_organs_dice"] == pytest.approx((2 / 3 + 0) / 2) and row["step2_organs_absent"] == 0
    assert math.isnan(row["step2_hd95_spleen"]) and not any("liver" in name for name in row if name.startswith("unet"))
