"""The table of classes by hand."""

import math

import pytest

from ultrarefiner_monai.reports.class_tables import class_table

NAMES = ("benign", "malignant")


def row(patient: str, true: str, p: float, **dice: float) -> dict:
    """A row in which the image is malignant with probability `p`."""
    probability = dict(zip(NAMES, (1 - p, p), strict=True))
    scores = {f"mask_probability_{name}": value for name, value in probability.items()}
    scores |= {f"mask_dice_{name}": dice.get(name, math.nan) for name in NAMES}
    return {"patient": patient, "class": true, "mask_class": max(probability, key=probability.get), **scores}


ROWS = [
    row("a", "benign", 0.1, benign=0.8),
    row("a", "benign", 0.7, benign=0.4, malignant=0.0),
    row("b", "benign", 0.2, benign=0.6),
    row("c", "malignant", 0.6, malignant=0.5),
    row("d", "other", 0.9),
]


def test_rates_prior_confusion_and_dice():
    table = class_table(ROWS)
    assert (table["output"], table["classes"], table["images"], table["patients"]) == ("mask", [*NAMES], 4, 3)
    assert table["prior"] == {"class": "benign", "share": 0.75}
    assert [line["metric"] for line in table["rates"]] == ["accuracy", "balanced_accuracy", "auc"]
    assert [line["value"] for line in table["rates"]] == pytest.approx([0.75, 5 / 6, 2 / 3])
    assert [line["undefined_resamples"] > 0 for line in table["rates"]] == [False, False, True]
    assert table["confusion"] == [
        {"true": "benign", "found": {"benign": 2, "malignant": 1}},
        {"true": "malignant", "found": {"benign": 0, "malignant": 1}},
        {"true": "other", "found": {"benign": 0, "malignant": 1}},
    ]
    benign, malignant = table["dice"]
    assert (benign["class"], benign["value"], benign["images"], benign["undefined"]) == (
        "benign",
        pytest.approx(0.6),
        3,
        2,
    )
    assert (malignant["value"], malignant["images"], malignant["patients"]) == (0.25, 2, 2)


def test_images_of_no_class_that_is_told_apart_have_no_rates():
    table = class_table(ROWS[-1:])
    assert table["images"] == 0 and table["prior"] is None and math.isnan(table["rates"][0]["value"])


def test_rows_without_classes_have_no_table():
    assert class_table([{"class": "benign", "patient": "a", "mask_dice": 0.5}]) == {}
