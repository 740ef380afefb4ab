"""Scores of classes by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from ultrarefiner_monai.metrics.classes import (
    RATES,
    class_mask,
    class_probability,
    image_class,
    known_rows,
    score_classes,
    summarise_classes,
    told,
)

NAMES = ("benign", "malignant")


def maps(benign, malignant):
    classes = np.array([benign, malignant], dtype=float)
    return classes.sum(0), classes


def test_the_class_of_an_image_is_that_of_its_lesion():
    lesion, classes = maps([[0.6, 0.5], [0.3, 0.0]], [[0.2, 0.3], [0.1, 0.1]])  # two pixels are lesion
    assert class_probability(lesion, classes) == pytest.approx([0.55 / 0.8, 0.25 / 0.8])
    lesion, classes = maps([[0.1, 0.0]], [[0.0, 0.3]])  # none is: the highest of each
    assert class_probability(lesion, classes) == pytest.approx([0.25, 0.75])
    assert class_probability(np.zeros((1, 2)), np.zeros((2, 1, 2))).tolist() == [0.5, 0.5]


def test_the_likeliest_class_is_told_by_its_name():
    lesion, (first, second) = maps([[0.1, 0.0]], [[0.0, 0.3]])
    assert image_class(lesion, {"benign": first, "malignant": second}) == {
        "class": "malignant",
        "class_probability": pytest.approx(0.75),
    }
    assert image_class(lesion, {}) == {}


def test_dice_of_each_class_by_hand():
    # Likeliest of background, benign, malignant: benign, malignant / background, benign.
    lesion, classes = maps([[0.6, 0.3], [0.4, 0.5]], [[0.2, 0.5], [0.0, 0.1]])
    truth = np.array([[True, True], [False, False]])
    row = score_classes("mask", lesion, classes, truth, NAMES, "benign")
    assert row["mask_dice_benign"] == pytest.approx(2 * 1 / (2 + 2)) and row["mask_dice_malignant"] == 0.0
    assert row["mask_class"] == "benign" and row["mask_probability_benign"] + row[
        "mask_probability_malignant"
    ] == pytest.approx(1)


def test_a_class_that_is_nowhere_has_no_dice():
    lesion, classes = maps([[0.9, 0.0]], [[0.0, 0.0]])
    row = score_classes("mask", lesion, classes, np.array([[True, False]]), NAMES, "benign")
    assert row["mask_dice_benign"] == 1.0 and math.isnan(row["mask_dice_malignant"])


def rows(*cases):
    return [
        {
            "class": true,
            "mask_class": "malignant" if p > 0.5 else "benign",
            "mask_probability_benign": 1 - p,
            "mask_probability_malignant": p,
            "mask_dice_benign": 1 - p if true == "benign" else math.nan,
            "mask_dice_malignant": p,
        }
        for true, p in cases
    ]


def test_summary_by_hand():
    cases = rows(("benign", 0.1), ("benign", 0.7), ("benign", 0.2), ("malignant", 0.6), ("normal", 0.9))
    assert summarise_classes(cases) == {
        "mask_accuracy": 0.75,
        "mask_balanced_accuracy": pytest.approx((2 / 3 + 1) / 2),
        "mask_auc": pytest.approx(2 / 3),
        "mask_dice_benign": pytest.approx((0.9 + 0.3 + 0.8) / 3),
        "mask_dice_malignant": pytest.approx(0.5),
        "n_accuracy": 4,
        "n_balanced_accuracy": 4,
        "n_auc": 4,
        "n_dice_benign": 3,
        "n_dice_malignant": 5,
    }


def test_a_tie_is_half_a_pair():
    """Malignant 0.6 and 0.4 against benign 0.6, 0.4, 0.1: of six pairs 0.5 + 1 + 1 and 0 + 0.5 + 1."""
    cases = rows(("malignant", 0.6), ("malignant", 0.4), ("benign", 0.6), ("benign", 0.4), ("benign", 0.1))
    assert summarise_classes(cases)["mask_auc"] == pytest.approx(4 / 6)
    assert summarise_classes(rows(("malignant", 0.5), ("benign", 0.5)))["mask_auc"] == 0.5


def test_the_area_does_not_depend_on_which_of_two_classes_is_asked_and_is_mirrored_where_all_is_mistaken():
    cases = rows(("benign", 0.1), ("benign", 0.7), ("malignant", 0.6), ("malignant", 0.9))
    other_order = [dict(sorted(row.items(), key=lambda one: one[0], reverse=True)) for row in cases]
    assert summarise_classes(cases)["mask_auc"] == summarise_classes(other_order)["mask_auc"] == 0.75
    swap = {"benign": "malignant", "malignant": "benign"}
    mistaken = [row | {"class": swap[row["class"]]} for row in cases]
    for rate in ("accuracy", "balanced_accuracy", "auc"):
        before, after = (summarise_classes(some)[f"mask_{rate}"] for some in (cases, mistaken))
        assert after == pytest.approx(1 - before), rate


def test_rates_are_those_of_scikit_learn_however_often_an_image_counts():
    generator = np.random.default_rng(0)
    cases = rows(*((NAMES[generator.integers(2)], generator.integers(10) / 10) for _ in range(200)))
    images, weights = told(cases), generator.integers(0, 4, (3, 200))
    for line, times in enumerate(weights):
        true, found, score = images.true, images.found, images.probability[:, 1]
        assert RATES["accuracy"](images, weights)[line] == pytest.approx(
            accuracy_score(true, found, sample_weight=times)
        )
        expected = balanced_accuracy_score(true, found, sample_weight=times)
        assert RATES["balanced_accuracy"](images, weights)[line] == pytest.approx(expected)
        assert RATES["auc"](images, weights)[line] == pytest.approx(roc_auc_score(true, score, sample_weight=times))


def test_an_image_of_another_class_is_in_no_rate():
    cases = rows(("benign", 0.1), ("normal", 0.9))
    assert known_rows(cases) == cases[:1] and told(cases).true.tolist() == [0]
    assert known_rows([]) == []
    assert known_rows([*cases[:1], cases[0] | {"mask_class": ""}, cases[0] | {"mask_class": "cyst"}]) == cases[:1]


def test_what_is_not_defined_is_nan():
    summary = summarise_classes(rows(("benign", 0.1), ("benign", 0.7)))
    assert math.isnan(summary["mask_auc"]) and summary["mask_accuracy"] == 0.5
    assert math.isnan(summarise_classes(rows(("normal", 0.1)))["mask_accuracy"])


def test_rows_without_classes_have_no_such_scores():
    assert summarise_classes([]) == summarise_classes([{"class": "benign", "mask_dice": 0.5}]) == {}
    assert score_classes("mask", np.ones((1, 1)), np.ones((0, 1, 1)), np.ones((1, 1)), (), "benign") == {}


def test_the_classes_masks_together_are_the_lesion():
    lesion, classes = maps([[0.4, 0.3, 0.2]], [[0.2, 0.1, 0.3]])
    assert class_mask(lesion, classes).tolist() == [[1, 0, 2]]
    assert class_mask(lesion, classes, 0.3).tolist() == [[1, 1, 2]]


def test_three_classes_are_each_against_the_rest():
    names = ("a", "b", "c")
    table = [("a", (0.8, 0.1, 0.1)), ("b", (0.2, 0.5, 0.3)), ("c", (0.3, 0.4, 0.3))]
    found = [
        {"class": true, "out_class": names[int(np.argmax(p))]}
        | {f"out_probability_{n}": v for n, v in zip(names, p, strict=True)}
        | {f"out_dice_{n}": 1.0 for n in names}
        for true, p in table
    ]
    summary = summarise_classes(found)
    assert summary["out_accuracy"] == pytest.approx(2 / 3) and summary["out_auc"] == pytest.approx((1 + 1 + 0.75) / 3)
