"""Intervals and tests against values worked out by hand, and what several images of one patient do to them."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import bootstrap, wilcoxon

from ultrarefiner_monai.metrics.classes import Told, accuracy, auc
from ultrarefiner_monai.reports.statistics import (
    RESAMPLES,
    TOO_FEW,
    Estimate,
    correct,
    holm,
    least_p,
    mean_by_patient,
    p_text,
    patient_means,
    ratio_by_patient,
    signed_rank,
    statistic_by_patient,
)

VALUES = np.random.default_rng(3).normal(0.8, 0.1, 40)
NAMES = [f"p{i}" for i in range(40)]


def test_mean_is_over_images_and_counts_what_is_defined():
    found = mean_by_patient([1.0, 0.25, 0.25, math.nan], ["a", "a", "b", "c"])
    assert (found.value, found.images, found.patients) == (0.5, 3, 2)
    assert found.low < found.value < found.high


def test_ratio_is_of_sums():
    found = ratio_by_patient([1, 3, 0], [1, 4, 0], ["a", "b", "c"])  # 4 of 5 lesions, not the mean of 1 and 3/4
    assert (found.value, found.images, found.patients) == (0.8, 2, 2)


def test_interval_of_independent_values_is_that_of_the_normal_approximation():
    found = mean_by_patient(VALUES, NAMES)
    half = 1.96 * VALUES.std() / math.sqrt(len(VALUES))
    assert found.low == pytest.approx(VALUES.mean() - half, abs=half / 5)
    assert found.high == pytest.approx(VALUES.mean() + half, abs=half / 5)


def test_copies_of_a_patients_image_are_no_evidence():
    once = mean_by_patient(VALUES, NAMES)
    copied = mean_by_patient(np.repeat(VALUES, 5), np.repeat(NAMES, 5))
    as_if_independent = mean_by_patient(np.repeat(VALUES, 5), range(200))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert copied.high - copied.low > 2 * (as_if_independent.high - as_if_independent.low)


def test_interval_covers_the_truth_as_often_as_it_says():
    """100 cross-validations of 30 patients with two alike images each; of 95 % binomial luck leaves 88 to 99."""
    generator, covered = np.random.default_rng(1), 0
    for cv in range(100):
        values = np.repeat(generator.normal(0, 1, 30), 2) + generator.normal(0, 0.2, 60)
        found = mean_by_patient(values, np.repeat(range(30), 2), seed=cv)
        covered += found.low <= 0 <= found.high
    assert 88 <= covered <= 99


def test_same_seed_same_interval():
    assert mean_by_patient(VALUES, NAMES, seed=5) == mean_by_patient(VALUES, NAMES, seed=5)
    assert mean_by_patient(VALUES, NAMES, seed=5) != mean_by_patient(VALUES, NAMES, seed=6)


def classes(true, probability):
    score = np.array(probability)
    return Told(np.array(true), (score > 0.5).astype(int), np.stack([1 - score, score], axis=1))


def test_any_statistic_has_the_interval_that_its_mean_would_have():
    patients = np.repeat(range(20), 2)
    right = np.random.default_rng(0).random(40) < 0.7
    images = classes(np.ones(40, dtype=int), np.where(right, 0.9, 0.2))
    found, undefined = statistic_by_patient(lambda times: accuracy(images, times), patients, seed=4)
    expected = mean_by_patient(right, patients, seed=4)
    assert (found.images, found.patients, undefined) == (40, 20, 0)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_all_images_right_leave_nothing_to_chance():
    images = classes([0, 1] * 6, [0.2, 0.7] * 6)
    for rate in (accuracy, auc):
        found, undefined = statistic_by_patient(lambda times, rate=rate: rate(images, times), np.repeat(range(6), 2))
        assert found == Estimate(1.0, 1.0, 1.0, 12, 6) and undefined == 0


def test_resamples_without_a_class_are_counted_and_the_interval_is_of_the_others():
    """Of two patients, of a class each, half of the resamples draw one of them twice."""
    images = classes([0, 1, 1], [0.2, 0.7, 0.6])
    found, undefined = statistic_by_patient(lambda times: auc(images, times), ["a", "b", "b"])
    assert (found.value, found.low, found.high) == (1, 1, 1) and abs(undefined - RESAMPLES / 2) < 100
    found, undefined = statistic_by_patient(lambda times: auc(classes([0, 0], [0.2, 0.7]), times), ["a", "b"])
    assert np.isnan([found.value, found.low, found.high]).all() and undefined == RESAMPLES
    found, undefined = statistic_by_patient(lambda times: auc(images, times), ["a", "a", "a"])
    assert found.value == 1 and math.isnan(found.low) and undefined == 0


def test_degenerate_samples():
    nothing, one = mean_by_patient([math.nan], ["a"]), mean_by_patient([0.3, 0.5], ["a", "a"])
    assert (nothing.images, nothing.patients) == (0, 0) and math.isnan(nothing.value)
    assert one.value == 0.4 and math.isnan(one.low) and math.isnan(one.high)
    assert mean_by_patient([0.5, 0.5, 0.5], "abc") == Estimate(0.5, 0.5, 0.5, 3, 3)


def test_signed_rank_by_hand():
    assert signed_rank([1, 2, 3, 4, 5], "abcde") == pytest.approx(2 / 2**5)  # all signs alike: 2 of 32 outcomes
    assert signed_rank([0, 0, 0], "abc") == 1.0
    assert math.isnan(signed_rank([math.nan], "a"))


def test_signed_rank_is_of_patients():
    differences = np.where(VALUES > 0.9, 0, VALUES - 0.77)
    expected = wilcoxon(differences, zero_method="pratt").pvalue
    assert signed_rank(np.repeat(differences, 3), np.repeat(NAMES, 3)) == pytest.approx(expected)
    assert patient_means([1, 3, math.nan, 5], ["b", "b", "c", "a"]).tolist() == [5, 2]


def test_holm_by_hand():
    # sorted 0.01 x 4, 0.02 x 3, 0.03 x 2 (not below 0.06), 0.5 x 1; NaN is no test
    assert holm([0.03, math.nan, 0.01, 0.5, 0.02])[::2] == pytest.approx([0.06, 0.04, 0.06])
    assert holm([0.03, math.nan, 0.01, 0.5, 0.02])[3] == 0.5
    assert math.isnan(holm([0.03, math.nan])[1])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_least_p_is_that_of_patients_who_all_agree():
    assert [least_p(n) for n in (1, 2, 5, 6)] == [1, 0.5, 2 / 32, 2 / 64] and math.isnan(least_p(0))
    for n in (2, 5, 6, 9):
        assert least_p(n) == pytest.approx(signed_rank(np.arange(n) + 1, range(n)))


def a_test(p, patients):
    return {"p": p, "delta": {"patients": patients}}


def test_tests_that_cannot_find_anything_say_so_in_place_of_a_p():
    lines = [a_test(0.9, 5), a_test(0.04, 6)]  # of 5 patients 2 / 32 at least; of 6 2 / 64, times 2 tests 0.0625
    assert correct(lines[1:]) == 1 and (lines[1]["p_holm"], lines[1]["p_holm_least"]) == (0.04, 2 / 64)
    assert p_text(lines[1]) == "0.040"
    assert correct(lines) == 2 and [line["p_holm_least"] for line in lines] == [2 / 32, 2 / 32]
    assert [p_text(line) for line in lines] == [TOO_FEW, TOO_FEW]


def test_many_patients_without_a_difference_are_not_too_few():
    lines = [a_test(1.0, 30), a_test(math.nan, 0), {"metric": "auc"}]
    assert correct(lines) == 1
    assert [p_text(line, "–") for line in lines] == ["1.000", "–", "–"]


@pytest.mark.parametrize("patients", [2, 3, 30, 300])
def test_the_interval_is_that_of_scipys_bootstrap(patients):
    """BCa of a ratio of sums and of a mean with few values, to the last digits and from the same draws."""
    generator = np.random.default_rng(patients)
    wholes = generator.integers(1, 5, patients)
    parts = generator.binomial(wholes, 0.8) + generator.random(patients)
    found = ratio_by_patient(parts, wholes, [f"{i:04d}" for i in range(patients)], seed=7)

    def ratio(chosen, axis=-1):
        return parts[chosen].sum(axis) / wholes[chosen].sum(axis)

    options = {"n_resamples": RESAMPLES, "random_state": np.random.default_rng(7), "method": "BCa"}
    expected = bootstrap((np.arange(patients),), ratio, **options).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_memory_of_an_interval_grows_with_the_patients_and_not_with_their_pairs():
    tracemalloc.start()
    mean_by_patient(np.random.default_rng(0).random(4000), range(4000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        peak < 1.5 * 8 * RESAMPLES * 4000
    )  # the resamples as numbers; patients left out one by one took twice that again
