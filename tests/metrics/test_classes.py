"""Scores of classes by hand."""

import math

import numpy as np
import pytest

from ultrarefiner_monai.metrics.classes import class_probability, score_classes, summarise_classes

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


def test_dice_of_each_class_by_hand():
    # Likeliest of background, benign, malignant: benign, malignant / background, benign.
    lesion, classes = maps([[0.6, 0.3], [0.4, 0.5]], [[0.2, 0.5], [0.0, 0.1]])
    truth = np.array([[True, True], [False, False]])
    row = score_classes(lesion, classes, truth, NAMES, "benign")
    assert row["dice_benign"] == pytest.approx(2 * 1 / (2 + 2)) and row["dice_malignant"] == 0.0
    assert row["class_found"] == "benign" and row["probability_benign"] + row["probability_malignant"] == pytest.approx(
        1
    )


def test_a_class_that_is_nowhere_has_no_dice():
    lesion, classes = maps([[0.9, 0.0]], [[0.0, 0.0]])
    row = score_classes(lesion, classes, np.array([[True, False]]), NAMES, "benign")
    assert row["dice_benign"] == 1.0 and math.isnan(row["dice_malignant"])


def rows(*cases):
    return [
        {
            "class": true,
            "class_found": "malignant" if p > 0.5 else "benign",
            "probability_malignant": p,
            "probability_benign": 1 - p,
        }
        for true, p in cases
    ]


def test_summary_by_hand():
    cases = rows(("benign", 0.1), ("benign", 0.7), ("benign", 0.2), ("malignant", 0.6), ("normal", 0.9))
    summary = summarise_classes(cases, NAMES)
    assert summary == {
        "n_class": 4,
        "accuracy": 0.75,
        "balanced_accuracy": pytest.approx((2 / 3 + 1) / 2),
        "auc": pytest.approx(2 / 3),
    }


def test_what_is_not_defined_is_nan():
    summary = summarise_classes(rows(("benign", 0.1), ("benign", 0.7)), NAMES)
    assert math.isnan(summary["auc"]) and summary["accuracy"] == 0.5
    assert math.isnan(summarise_classes([], NAMES)["accuracy"])


def test_three_classes_are_each_against_the_rest():
    names = ("a", "b", "c")
    table = [("a", (0.8, 0.1, 0.1)), ("b", (0.2, 0.5, 0.3)), ("c", (0.3, 0.4, 0.3))]
    found = [
        {"class": true, "class_found": names[int(np.argmax(p))]}
        | {f"probability_{n}": v for n, v in zip(names, p, strict=True)}
        for true, p in table
    ]
    summary = summarise_classes(found, names)
    assert summary["accuracy"] == pytest.approx(2 / 3) and summary["auc"] == pytest.approx((1 + 1 + 0.75) / 3)
