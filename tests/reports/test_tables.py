"""Tables of hand-made rows."""

import math

import pytest

from ultrarefiner_monai.reports.tables import fold_table, groups, metric_of, place_of, size_cuts, size_of, stage_table


def row(coarse: float, refined: float, **facts) -> dict:
    scores = {"coarse_dice": coarse, "refined_dice": refined, "coarse_lesions_found": 1, "refined_lesions_found": 1}
    named = {"dataset": "X", "patient": "p", "class": "benign", "fold": 0, "lesion_share": 0.1, "lesions": 1}
    return {**named, **scores, **facts}


def test_estimates_are_those_of_images_where_defined():
    rows = [row(0.5, 0.7), row(0.9, 0.8, patient="q"), row(math.nan, 0.6, patient="r")]
    table = stage_table(rows, tests=True)
    line = metric_of(table, "dice")
    assert (table["images"], table["patients"], table["unit"]) == (3, 3, "px")
    assert table["changes"] == {"worse_share": 0.5, "better_share": 0.5}
    assert line["coarse"]["value"] == pytest.approx(0.7) and line["coarse"]["images"] == 2
    assert line["refined"]["value"] == pytest.approx(0.7) and line["refined"]["images"] == 3
    assert line["delta"]["value"] == pytest.approx(0.05) and line["delta"]["patients"] == 2
    assert line["undefined"] == {"coarse": 1, "refined": 0} and line["p"] == 1.0


def test_sensitivity_is_of_lesions():
    rows = [row(1, 1, lesions=3, coarse_lesions_found=1), row(1, 1, patient="q", lesions=1, refined_lesions_found=0)]
    line = metric_of(stage_table(rows), "lesion_sensitivity")
    assert (line["lesions"], line["coarse"]["value"], line["refined"]["value"], line["delta"]["value"]) == (
        4,
        0.5,
        0.25,
        -0.25,
    )


def test_coarse_alone():
    table = stage_table([{"patient": "p", "coarse_dice": 0.5}], tests=True)
    assert [line["metric"] for line in table["metrics"]] == ["dice"]
    assert table["changes"] == {} and not {"refined", "delta", "p"} & table["metrics"][0].keys()


def test_millimetres_and_pixels_are_not_averaged():
    rows = [row(1, 1, coarse_hd95=20.0, unit="px"), row(1, 1, coarse_hd95=2.0, unit="mm", patient="q")]
    line = metric_of(stage_table(rows), "hd95")
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
    assert [place_of(one) for one in rows] == ["out-of-fold"] * 3 + ["test", "out-of-fold"]
