import math

import numpy as np
import pytest
import torch
from monai.metrics import calibration_binning
from sklearn.calibration import calibration_curve

from ultrarefiner_monai.metrics import calibration_error, calibration_sums, reliability

ALL, LESION = 0, 1


def sums(prob: np.ndarray, target: np.ndarray) -> np.ndarray:
    return calibration_sums(prob[None], target)[0]


def test_by_hand():
    prob = np.array([[0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1]])
    target = np.array([[1, 1, 1, 0, 0, 0, 0, 1]], dtype=bool)
    found = sums(prob, target)[ALL]
    # |3/4 - 0.9| and |1/4 - 0.1|, half of the pixels each
    assert calibration_error(found) == pytest.approx(0.15)
    diagram = reliability(found)
    assert diagram["pixels"] == [0, 4, *11 * [0], 4, 0]  # 15 bins: 0.1 in the second, 0.9 in the fourteenth
    assert (diagram["confidence"][13], diagram["accuracy"][13]) == pytest.approx((0.9, 0.75))
    assert diagram["confidence"][0] is None and diagram["accuracy"][0] is None
    assert diagram["ece"] == pytest.approx(0.15)


def test_a_perfectly_calibrated_and_a_wrong_map():
    target = np.indices((40, 40)).sum(0) % 2 == 0
    assert calibration_error(sums(target.astype(float), target)[ALL]) == 0
    assert calibration_error(sums(np.full((40, 40), 0.5), target)[ALL]) == pytest.approx(0)
    assert calibration_error(sums(1.0 - target, target)[ALL]) == pytest.approx(1)


def test_the_lesion_region_is_the_lesion_and_its_margin():
    prob, target = np.zeros((300, 400)), np.zeros((300, 400), dtype=bool)
    target[100:120, 200:230] = True  # missed altogether
    found = sums(prob, target)
    assert found[ALL, 0, 0] == 300 * 400
    assert found[LESION, 0, 0] == (20 + 20) * (30 + 20)  # a margin of 2 % of 500 px on each side
    assert calibration_error(found[ALL]) == pytest.approx(600 / 120000)
    assert calibration_error(found[LESION]) == pytest.approx(600 / 2000)


def test_an_image_without_a_lesion_adds_nothing_to_the_lesion_region():
    found = sums(np.full((20, 20), 0.3), np.zeros((20, 20), dtype=bool))
    assert not found[LESION].any() and math.isnan(calibration_error(found[LESION]))
    assert reliability(found[LESION])["ece"] is None
    assert calibration_error(found[ALL]) == pytest.approx(0.3)


def test_values_that_are_not_finite_are_left_out():
    prob = np.full((10, 10), 0.5)
    prob[0, :2] = math.nan, math.inf
    assert sums(prob, np.ones((10, 10), dtype=bool))[ALL, 0].sum() == 98


def test_sums_of_images_add_up_and_stages_stay_apart():
    rng = np.random.default_rng(0)
    prob, target = rng.random((2, 30, 60)), rng.random((30, 60)) < 0.3
    whole = calibration_sums(prob, target)
    halves = calibration_sums(prob[:, :, :30], target[:, :30]) + calibration_sums(prob[:, :, 30:], target[:, 30:])
    np.testing.assert_allclose(whole[:, ALL], halves[:, ALL])
    np.testing.assert_allclose(whole[1], sums(prob[1], target))


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_scikit_learn_and_monai(seed):
    rng = np.random.default_rng(seed)
    prob = rng.random((50, 60)) ** rng.integers(1, 12)  # the steepest leave bins empty
    target = rng.random((50, 60)) < prob**1.3
    found = sums(prob, target)[ALL]
    accuracy, confidence = calibration_curve(target.ravel(), prob.ravel(), n_bins=15)
    diagram = reliability(found)
    assert [x for x in diagram["accuracy"] if x is not None] == pytest.approx(accuracy.tolist())
    assert [x for x in diagram["confidence"] if x is not None] == pytest.approx(confidence.tolist())
    means, shares, counts = calibration_binning(
        torch.from_numpy(prob)[None, None], torch.from_numpy(target)[None, None], 15
    )
    expected = float(((means - shares).abs().nan_to_num() * counts).sum() / counts.sum())
    assert calibration_error(found) == pytest.approx(expected, abs=1e-6)
