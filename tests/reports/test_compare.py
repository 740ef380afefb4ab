"""Paired comparison of hand-made tables."""

import json
import math
from pathlib import Path

import pytest
from made_results import ONE

from ultrarefiner_monai.cross_validation.scores import summary
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.files import json_text
from ultrarefiner_monai.metrics.scores_file import read_rows, write_rows
from ultrarefiner_monai.reports.compare import compare, comparison_text
from ultrarefiner_monai.reports.report import report


def row(name: str, coarse: float, refined: float | None = None, **facts) -> dict:
    scores = {"coarse_dice": coarse} | ({} if refined is None else {"refined_dice": refined})
    return {
        "image": f"{name}.png",
        "patient": name[0],
        "class": "benign",
        "fold": 0,
        "phase": "phase3",
        **scores,
        **facts,
    }


FIRST = [row("a1", 0.5, 0.6), row("a2", 0.5, 0.7), row("b1", 0.4, 0.5), row("t", 0.9, 0.9, fold="test"), row("x", 0, 0)]
SECOND = [
    row("b1", 0.5, 0.8),
    row("a2", 0.5, 0.7),
    row("a1", 0.5, 0.7),
    row("t", 0.9, 0.8, fold="test"),
    row("y", 0, 0),
]


def cv(folder: Path, rows: list[dict], manifest: str = "a" * 64) -> Path:
    (folder / "phase3/fold0").mkdir(parents=True)
    (folder / "phase3/fold0/model.json").write_text(json.dumps({"manifest_sha256": manifest}))
    write_rows(folder / "per_image.csv", rows)
    return folder


def line(document: dict, place: str, stages: str = "refined", metric: str = "dice") -> dict:
    found = [
        one
        for one in document["differences"]
        if (one["place"], one["stages"], one["metric"]) == (place, stages, metric)
    ]
    return found[0]


def test_differences_are_paired_by_image(tmp_path: Path):
    document = compare(cv(tmp_path / "a", FIRST), cv(tmp_path / "b", SECOND))
    found = line(document, "out-of-fold")
    assert found["delta"]["value"] == pytest.approx((0.1 + 0.0 + 0.3) / 3)
    assert (found["delta"]["images"], found["delta"]["patients"]) == (3, 2)
    assert (found["first"], found["second"]) == (pytest.approx(0.6), pytest.approx(2.2 / 3))
    assert line(document, "out-of-fold", "coarse")["delta"]["value"] == pytest.approx(0.1 / 3)
    assert line(document, "test")["delta"]["value"] == pytest.approx(-0.1)
    assert (document["images"], document["only_first"], document["only_second"]) == (4, 1, 1)
    assert document["warnings"] == [] and document["method"]["tests"] == 4


def test_text_and_json(tmp_path: Path):
    document = compare(cv(tmp_path / "a", FIRST), cv(tmp_path / "b", SECOND))
    text = comparison_text(document)
    assert text.startswith("second minus first: b phase3 minus a phase3\n4 images in both, 1 only in the first, 1 only")
    assert any("+0.1333" in part and part.startswith("dice") for part in text.splitlines())
    assert all(part.endswith("too few patients") for part in text.splitlines() if part.startswith("dice"))
    assert json.loads(json_text(document))["differences"][-1]["delta"]["low"] is None  # one patient has no interval


def test_marks_follow_what_is_better(tmp_path: Path):
    names = [chr(ord("a") + i) for i in range(10)]
    first = [row(name, 0.5, coarse_hd95=9.0 + i / 10) for i, name in enumerate(names)]
    second = [row(name, 0.6 + i / 100, coarse_hd95=4.0) for i, name in enumerate(names)]
    text = comparison_text(compare(cv(tmp_path / "a", first), cv(tmp_path / "b", second)))
    assert [part.split()[4] for part in text.splitlines() if part.startswith(("dice", "hd95"))] == ["▲", "▲"]
    text = comparison_text(compare(tmp_path / "b", tmp_path / "a"))
    assert [part.split()[4] for part in text.splitlines() if part.startswith(("dice", "hd95"))] == ["▼", "▼"]


def test_different_or_unknown_manifests_are_told(tmp_path: Path):
    a, b = cv(tmp_path / "a", FIRST, "a" * 64), cv(tmp_path / "b", SECOND, "b" * 64)
    assert compare(a, b)["warnings"][0].startswith("different manifests (aaaaaaaaaaaa and bbbbbbbbbbbb)")
    write_rows(tmp_path / "lone" / "table.csv", SECOND)
    assert "table.csv is not known" in compare(a, tmp_path / "lone" / "table.csv")["warnings"][0]


def test_true_prompts_beside_none_are_told(tmp_path: Path):
    rows = [row("a", 0.5), row("b", 0.6)]
    asked = [{**one, "prompts": "truth_box", "ellipse": 0.9} for one in rows]
    (warning,) = compare(cv(tmp_path / "1", rows), cv(tmp_path / "2", asked))["warnings"]
    assert warning.startswith("asked about different lesions (nothing and truth_box)")
    assert compare(cv(tmp_path / "3", asked), cv(tmp_path / "4", asked))["warnings"] == []


def test_an_image_tested_by_one_and_trained_on_by_the_other_is_left_out(tmp_path: Path):
    moved = [row("a1", 0.5, 0.6, fold="test"), *SECOND[:2]]
    document = compare(cv(tmp_path / "a", FIRST), cv(tmp_path / "b", moved))
    assert document["images"] == 2 and "1 images are test images of one" in document["warnings"][-1]


def test_a_coarse_run_against_a_refined_one_by_id(tmp_path: Path):
    coarse = {"id": "a", "patient": "p", "class": "benign", "coarse_dice": 0.5}
    write_rows(tmp_path / "one/per_image.csv", [coarse, coarse | {"id": "b"}])
    write_rows(tmp_path / "two/per_image.csv", [coarse | {"refined_dice": 0.75}])
    document = compare(tmp_path / "one", tmp_path / "two")
    assert line(document, "all", "coarse and refined")["delta"]["value"] == 0.25
    assert line(document, "all", "coarse")["delta"]["value"] == 0


def test_outputs_of_the_same_name_and_the_last_ones_are_compared(tmp_path: Path):
    facts = {"patient": "p", "class": "benign"}
    write_rows(tmp_path / "a.csv", [{"id": "x", **facts, "unet_dice": 0.5, "step1_dice": 0.6, "step2_dice": 0.5}])
    write_rows(tmp_path / "b.csv", [{"id": "x", **facts, "unet_dice": 0.5, "step1_dice": 0.5, "step2_dice": 0.75}])
    write_rows(tmp_path / "c.csv", [{"id": "x", **facts, "mask_dice": 0.75}])

    def deltas(a: str, b: str) -> dict:
        lines = compare(tmp_path / f"{a}.csv", tmp_path / f"{b}.csv")["differences"]
        return {line["stages"]: pytest.approx(line["delta"]["value"]) for line in lines}

    assert deltas("a", "b") == {"step2": 0.25, "unet": 0.0, "step1": -0.1}
    assert deltas("a", "c") == {"step2 and mask": 0.25}
    assert deltas("c", "c") == {"mask": 0.0}


def told(name: str, true: str, p: float, names=("benign", "malignant"), **facts) -> dict:
    """A row whose image is of the second class with probability `p`."""
    probability = {f"mask_probability_{one}": value for one, value in zip(names, (1 - p, p), strict=True)}
    dice = {"mask_dice": 0.5} | {f"mask_dice_{one}": 0.5 + p / 2 if one == true else math.nan for one in names}
    found = names[int(p > 0.5)]
    place = {"fold": 0, "phase": "one"}
    return {
        "image": name,
        "patient": name[0],
        "class": true,
        **place,
        **dice,
        **probability,
        "mask_class": found,
        **facts,
    }


def test_scores_of_classes_are_compared_where_both_tell_them(tmp_path: Path):
    """Four images, a patient each: the first side is right in a and d, the second in all but c."""
    true = {"a": "benign", "b": "benign", "c": "malignant", "d": "malignant"}
    first = [told(name, true[name], p) for name, p in zip("abcd", (0.2, 0.7, 0.4, 0.9), strict=True)]
    second = [told(name, true[name], p) for name, p in zip("abcd", (0.2, 0.3, 0.4, 0.9), strict=True)]
    stranger = told("e", "other", 0.9)
    write_rows(tmp_path / "a.csv", [*first, stranger])
    write_rows(tmp_path / "b.csv", [*second, stranger])
    document = compare(tmp_path / "a.csv", tmp_path / "b.csv")
    accuracy, balanced, auc, benign, malignant = document["differences"][-5:]
    assert [one["metric"] for one in (accuracy, balanced, auc)] == ["accuracy", "balanced_accuracy", "auc"]
    assert [(one["first"], one["second"]) for one in (accuracy, balanced, auc)] == [
        (0.5, 0.75),
        (0.5, 0.75),
        (0.75, 1.0),
    ]
    assert accuracy["delta"]["value"] == 0.25 and accuracy["delta"]["patients"] == 4 and accuracy["undefined"] == 1
    assert accuracy["p"] == pytest.approx(1.0) and math.isnan(auc["p"]) and auc["undefined_resamples"] > 0
    assert (benign["metric"], benign["first"], benign["second"]) == (
        "dice_benign",
        pytest.approx(0.725),
        pytest.approx(0.625),
    )
    assert malignant["delta"]["value"] == 0
    text = comparison_text(document)
    assert any(part.startswith("accuracy ") and "+0.2500" in part for part in text.splitlines())


def test_other_classes_are_told_and_not_compared(tmp_path: Path):
    write_rows(tmp_path / "a.csv", [told("a", "benign", 0.2)])
    write_rows(tmp_path / "b.csv", [told("a", "benign", 0.2, ("benign", "cyst"))])
    write_rows(tmp_path / "c.csv", [row("a", 0.5, 0.6, image="a")])
    document = compare(tmp_path / "a.csv", tmp_path / "b.csv")
    assert [one["metric"] for one in document["differences"]] == ["dice"]
    assert (
        "different classes (benign, malignant and benign, cyst): their scores are not compared" in document["warnings"]
    )
    assert not [
        text for text in compare(tmp_path / "a.csv", tmp_path / "c.csv")["warnings"] if "different classes" in text
    ]


def test_two_systems_on_the_same_folds_and_test_images(small_cv, class_cv):
    document = compare(small_cv.out, class_cv.out)
    assert document["warnings"] == [] and document["only_first"] == document["only_second"] == 0
    assert (document["first"]["phase"], document["second"]["phase"]) == ("phase3", "automedsam")
    found = line(document, "test", "refined and mask")
    expected = {line["fold"]: line for line in summary(read_rows(class_cv.out / "per_image.csv"))}["test"]
    assert found["second"] == pytest.approx(expected["mask_dice"])
    assert not [one for one in document["differences"] if one["metric"] == "accuracy"]
    same = compare(class_cv.out, class_cv.out)
    assert {one["delta"]["value"] for one in same["differences"] if one["metric"] == "accuracy"} == {0}


def test_manifests_of_the_stages_of_any_system_are_known(study_of):
    folder = study_of(ONE).folder
    report(folder, folder / "per_image.csv", "csv")
    document = compare(folder, folder)
    assert document["warnings"] == [] and document["first"]["phase"] == "distill"


def test_phases(tmp_path: Path):
    rows = [*FIRST, *(one | {"phase": "phase2", "refined_dice": 0.1} for one in FIRST)]
    a = cv(tmp_path / "a", rows)
    assert line(compare(a, a, phase="phase2"), "test")["first"] == pytest.approx(0.1)
    assert line(compare(a, a), "test")["first"] == pytest.approx(0.9)
    with pytest.raises(DataError, match="has no phase1: expected one of phase2, phase3"):
        compare(a, a, phase="phase1")


def test_undefined_values_are_counted(tmp_path: Path):
    document = compare(cv(tmp_path / "a", FIRST), cv(tmp_path / "b", [row("a1", math.nan, 0.5), row("a2", 0.5, 0.5)]))
    found = line(document, "out-of-fold", "coarse")
    assert (found["undefined"], found["delta"]["images"]) == (1, 1)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row("z", 1, 1)], "no image in common"),
        ([row("a1", 1, 1)] * 2, "an image more than once"),
        ([], "expected columns"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, rows: list, reason: str):
    with pytest.raises(DataError, match=reason) as caught:
        compare(cv(tmp_path / "a", FIRST), cv(tmp_path / "b", rows))
    assert "\n" not in str(caught.value)
