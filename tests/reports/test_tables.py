"""Tables of hand-made rows."""

import math

import pytest

from ultrarefiner_monai.reports.tables import (
    class_table,
    fold_table,
    groups,
    metric_of,
    output_table,
    place_of,
    size_cuts,
    size_of,
    stages_of,
    worse_table,
)


def row(coarse: float, refined: float, **facts) -> dict:
    scores = {"coarse_dice": coarse, "refined_dice": refined, "coarse_lesions_found": 1, "refined_lesions_found": 1}
    named = {"dataset": "X", "patient": "p", "class": "benign", "fold": 0, "lesion_share": 0.1, "lesions": 1}
    return {**named, **scores, **facts}


def test_estimates_are_those_of_images_where_defined():
    rows = [row(0.5, 0.7), row(0.9, 0.8, patient="q"), row(math.nan, 0.6, patient="r")]
    table = output_table(rows, tests=True)
    line = metric_of(table, "dice")
    assert (table["images"], table["patients"], table["unit"]) == (3, 3, "px")
    assert table["changes"] == {"worse_share": 0.5, "better_share": 0.5}
    assert line["coarse"]["value"] == pytest.approx(0.7) and line["coarse"]["images"] == 2
    assert line["refined"]["value"] == pytest.approx(0.75) and line["refined"]["images"] == 2
    assert line["delta"]["value"] == pytest.approx(0.05) and line["delta"]["patients"] == 2
    assert line["undefined"] == {"coarse": 1, "refined": 0} and line["p"] == 1.0


def test_sensitivity_is_of_lesions():
    rows = [row(1, 1, lesions=3, coarse_lesions_found=1), row(1, 1, patient="q", lesions=1, refined_lesions_found=0)]
    line = metric_of(output_table(rows), "lesion_sensitivity")
    assert (line["lesions"], line["coarse"]["value"], line["refined"]["value"], line["delta"]["value"]) == (
        4,
        0.5,
        0.25,
        -0.25,
    )


def test_coarse_alone():
    table = output_table([{"patient": "p", "coarse_dice": 0.5}], tests=True)
    assert [line["metric"] for line in table["metrics"]] == ["dice"]
    assert table["changes"] == {} and not {"refined", "delta", "p"} & table["metrics"][0].keys()


def test_three_outputs_and_what_the_last_gains_over_the_first():
    rows = [{"patient": "p", "unet_dice": 0.5, "step1_dice": 0.4, "step2_dice": 0.75}]
    rows += [{"patient": "q", "unet_dice": 0.7, "step1_dice": math.nan, "step2_dice": 0.75}]
    table = output_table(rows, tests=True)
    line = metric_of(table, "dice")
    values = {name: line[name]["value"] for name in ("unet", "step1", "step2", "delta")}
    assert values == pytest.approx({"unet": 0.5, "step1": 0.4, "step2": 0.75, "delta": 0.25})
    assert {line[name]["images"] for name in values} == {1}
    assert line["undefined"] == {"unet": 0, "step1": 1, "step2": 0} and line["p"] == 1.0  # one pair says nothing
    assert table["changes"] == {"worse_share": 0.0, "better_share": 1.0}


def test_stages_come_in_the_order_of_their_training_and_unknown_ones_before():
    assert stages_of([{"phase": name} for name in ("phase3", "mine", "phase2")]) == ["mine", "phase2", "phase3"]
    assert stages_of([{"id": "a"}]) == []


def test_millimetres_and_pixels_are_not_averaged():
    rows = [row(1, 1, coarse_hd95=20.0, unit="px"), row(1, 1, coarse_hd95=2.0, unit="mm", patient="q")]
    line = metric_of(output_table(rows), "hd95")
    assert line["coarse"]["value"] == 2.0 and line["undefined"] == {"coarse": 1}


def test_thirds_by_lesion_share():
    rows = [row(1, 1, lesion_share=share) for share in (0.0, 0.1, 0.2, 0.3, 0.4)]
    cuts = size_cuts(rows)
    assert cuts == pytest.approx([0.2, 0.3])
    assert [size_of(one, cuts) for one in rows] == ["none", "small", "small", "middle", "large"]
    assert size_cuts([row(1, 1, lesion_share=0.0)]) == []


def test_groups():
    rows = [row(1, 1, lesion_share=0.1), row(1, 1, lesion_share=0.5, dataset="Y", **{"class": "malignant"})]
    found = [(by, name, len(chosen)) for by, name, chosen in groups(rows, [0.2, 0.4])]
    assert found == [
        ("class", "benign", 1),
        ("class", "malignant", 1),
        ("lesion size", "small", 1),
        ("lesion size", "large", 1),
        ("data set", "X", 1),
        ("data set", "Y", 1),
    ]


def test_folds_mean_and_deviation():
    rows = [row(0.5, 0.7), row(0.7, 0.7), row(0.8, 0.9, fold=10), row(0.1, 0.1, fold="test"), row(0.8, 0.9, fold=2)]
    lines = {line["fold"]: line for line in fold_table(rows)}
    assert list(lines) == [0, 2, 10, "mean", "sd"]
    assert lines[0]["coarse_dice"] == pytest.approx(0.6) and lines["mean"]["images"] == 4
    assert lines["mean"]["refined_dice"] == pytest.approx((0.7 + 0.9 + 0.9) / 3)
    assert lines["sd"]["coarse_dice"] == pytest.approx(math.sqrt(2 * (0.2 / 3) ** 2 + (0.4 / 3) ** 2) / math.sqrt(2))
    assert [lines[fold]["n_dice"] for fold in lines] == [2, 1, 1, 4, 4]
    assert [place_of(one) for one in rows] == ["out-of-fold"] * 3 + ["test", "out-of-fold"]


CUTS = [0.2, 0.4]


def changed(name: str, coarse: float, refined: float, share: float = 0.5, **facts) -> dict:
    named = {"dataset": "X", "id": name, "patient": name, "class": "benign", "fold": 0, "lesions": 1}
    return {**named, "coarse_dice": coarse, "refined_dice": refined, "lesion_share": share, **facts}


def test_worst_first_and_the_limit_is_beyond_002():
    rows = [
        changed("a", 0.52, 0.5),
        changed("b", 0.5, 0.4),
        changed("c", 0.9, 0.1, fold="test"),
        changed("d", math.nan, 0.0),
    ]
    found = worse_table(rows, CUTS)
    assert [entry["id"] for entry in found["rows"]] == ["c", "b"] and (found["images"], found["of"]) == (2, 3)
    assert found["rows"][0]["place"] == "test" and found["rows"][0]["size"] == "large"


def test_reading_names_what_is_more_frequent_among_them():
    bad = [changed(f"bad{i}", 0.4, 0.1, share=0.1, coarse_precision=math.nan if i == 0 else 0.5) for i in range(3)]
    good = [changed(f"good{i}", 0.9, 0.9) for i in range(7)]
    found = worse_table(bad + good, CUTS)
    traits = {trait["trait"]: trait for trait in found["traits"]}
    assert (traits["coarse Dice below 0.5"]["worse"], traits["coarse Dice below 0.5"]["all"]) == (1.0, 0.3)
    assert traits["blank coarse mask (no prompt)"]["images"] == 1 and found["rows"][0]["coarse_blank"]
    assert "coarse Dice below 0.5 (100 % of them, 30 % of all images)" in found["reading"]
    assert "small lesion" in found["reading"] and "blank" not in found["reading"]  # one image says nothing


def test_what_got_worse_of_three_outputs_is_told_from_the_first_to_the_last():
    named = {"dataset": "X", "id": "a", "patient": "p", "class": "malignant", "fold": 0, "unet_precision": math.nan}
    found = worse_table([{**named, "unet_dice": 0.6, "step1_dice": 0.9, "step2_dice": 0.3}], [])
    entry = found["rows"][0]
    assert (entry["step1_dice"], entry["delta_dice"], entry["unet_blank"]) == (0.9, pytest.approx(-0.3), True)
    assert found["traits"][0]["trait"] == "unet Dice below 0.5" and entry["unet_false_lesions"] is None


def test_nothing_to_read():
    assert worse_table([changed("a", 0.5, 0.6)], CUTS)["reading"] == "No image got worse by more than that."
    assert worse_table([changed("a", 0.9, 0.6)], CUTS)["reading"].startswith("No trait looked at")


CLASSES = ("benign", "malignant")


def told(patient: str, true: str, p: float, **dice: float) -> dict:
    """A row in which the image is malignant with probability `p`."""
    probability = dict(zip(CLASSES, (1 - p, p), strict=True))
    scores = {f"mask_probability_{name}": value for name, value in probability.items()}
    scores |= {f"mask_dice_{name}": dice.get(name, math.nan) for name in CLASSES}
    return {"patient": patient, "class": true, "mask_class": max(probability, key=probability.get), **scores}


TOLD = [
    told("a", "benign", 0.1, benign=0.8),
    told("a", "benign", 0.7, benign=0.4, malignant=0.0),
    told("b", "benign", 0.2, benign=0.6),
    told("c", "malignant", 0.6, malignant=0.5),
    told("d", "other", 0.9),
]


def test_rates_prior_confusion_and_dice():
    table = class_table(TOLD)
    assert (table["output"], table["classes"], table["images"], table["patients"]) == ("mask", [*CLASSES], 4, 3)
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
    table = class_table(TOLD[-1:])
    assert table["images"] == 0 and table["prior"] is None and math.isnan(table["rates"][0]["value"])


def test_rows_without_classes_have_no_table():
    assert class_table([{"class": "benign", "patient": "a", "mask_dice": 0.5}]) == {}
