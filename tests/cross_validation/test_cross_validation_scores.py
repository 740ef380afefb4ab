"""Scores of hand-made rows."""

import csv
import math
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from ultrarefiner_monai.cross_validation.scores import Prediction, columns_of, markdown, score_row, summary
from ultrarefiner_monai.cross_validation.terminal import short_table
from ultrarefiner_monai.metrics.classes import RATES, told
from ultrarefiner_monai.metrics.scores_file import read_rows
from ultrarefiner_monai.reports.statistics import holm, mean_by_patient, signed_rank, statistic_by_patient
from ultrarefiner_monai.tracking.store import NOTE

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
METRICS = ("dice", "iou", "hd95", "precision", "recall")


def row(fold, coarse, refined):
    scores = {
        f"{stage}_{name}": value for stage, value in (("coarse", coarse), ("refined", refined)) for name in METRICS
    }
    return {"phase": "phase2", "fold": fold} | scores


ROWS = [row(0, 0.8, 0.9), row(0, 0.6, 0.5), row(1, 0.5, 0.5), row("test", 0.7, 0.71)]


def test_folds_mean_deviation_and_test():
    lines = {line["fold"]: line for line in summary(ROWS)}
    assert list(lines) == [0, 1, "mean", "sd", "test"]
    assert lines[0]["coarse_dice"] == pytest.approx(0.7)
    assert lines[0]["delta_dice"] == pytest.approx(0.0, abs=1e-6)
    assert (lines[0]["worse_share"], lines[0]["better_share"]) == (0.5, 0.5)
    assert lines["mean"]["refined_dice"] == pytest.approx(0.6)
    assert lines["sd"]["refined_dice"] == pytest.approx(math.sqrt(0.02))
    assert lines["mean"]["images"] == 3
    assert lines["test"]["delta_dice"] == pytest.approx(0.01)


def test_every_table_counts_the_images_that_a_mean_is_of_and_all_outputs_have_the_same():
    """Coarse misses one image and refined another: HD95 10 and 6 of the only one that both have, by hand."""
    rows = [row(0, 0.5, 0.6), row(0, 0.5, 0.0), row(0, 0.0, 0.6), row(1, 0.8, 0.9), row("test", 0.5, 0.5)]
    distances = [(10.0, 6.0), (40.0, math.nan), (math.nan, 80.0), (8.0, 8.0), (math.nan, 1.0)]
    rows = [one | {"coarse_hd95": a, "refined_hd95": b} for one, (a, b) in zip(rows, distances, strict=True)]
    lines = {line["fold"]: line for line in summary(rows)}
    found = {fold: [line[name] for name in ("coarse_hd95", "refined_hd95", "n_hd95")] for fold, line in lines.items()}
    assert found[0] == [10, 6, 1] and found[1] == [8, 8, 1] and found["mean"] == [9, 7, 2]
    assert found["sd"] == pytest.approx([math.sqrt(2), math.sqrt(2), 2])
    assert math.isnan(found["test"][0]) and found["test"][2] == 0 and lines["test"]["n_dice"] == 1
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown(summary(rows)).splitlines()]
    assert table[0][-5:] == ["coarse_hd95", "refined_hd95", "n_hd95", "worse", "better"] and "n_dice" not in table[0]
    assert table[2][-5:-2] == ["10.0", "6.0", "1"] and table[-1][-5:-2] == ["–", "–", "0"]


def test_a_fold_without_a_defined_value_is_left_out_of_the_mean_over_folds():
    rows = [row(0, 0.5, 0.6), row(1, 0.0, 0.0) | {"coarse_hd95": math.nan}, row(2, 0.7, 0.8), row("test", 1, 1)]
    lines = {line["fold"]: line for line in summary(rows)}
    assert math.isnan(lines[1]["refined_hd95"]) and lines["mean"]["refined_hd95"] == pytest.approx(0.7)
    assert lines["sd"]["coarse_hd95"] == pytest.approx(math.sqrt(0.02)) and lines["mean"]["n_hd95"] == 2


def test_a_count_of_dice_is_told_where_some_image_has_none():
    rows = [row(0, 0.5, 0.6), row(0, math.nan, math.nan), row(1, 0.5, 0.6), row("test", 1, 1)]
    head, _, first, *_ = markdown(summary(rows)).splitlines()
    assert "| delta_dice | n_dice | coarse_iou | refined_iou | n_iou |" in head
    assert first.startswith("| phase2 | 0 | 2 | 0.5000 | 0.6000 | +0.1000 | 1 |")


def of_class(true, p, fold, benign=math.nan, malignant=math.nan):
    """A row of one output whose image is malignant with probability `p`."""
    classes = {"mask_probability_benign": 1 - p, "mask_probability_malignant": p}
    dice = {f"mask_{name}": 0.5 for name in METRICS} | {"mask_dice_benign": benign, "mask_dice_malignant": malignant}
    found = "malignant" if p > 0.5 else "benign"
    return {"phase": "one", "fold": fold, "class": true, **dice, **classes, "mask_class": found}


def test_scores_of_classes_by_fold_over_folds_and_of_the_test_set():
    """Fold 0: right, wrong, right. Fold 1: both right. Test: one class only, which has no AUC."""
    rows = [
        of_class("benign", 0.2, 0, 0.8),
        of_class("benign", 0.6, 0, 0.4, 0.0),
        of_class("malignant", 0.6, 0, malignant=1.0),
    ]
    rows += [of_class("benign", 0.1, 1, 0.5), of_class("malignant", 0.9, 1, malignant=0.7)]
    rows += [of_class("benign", 0.3, "test", 0.9)]
    lines = {line["fold"]: line for line in summary(rows)}

    def values(name):
        return [lines[fold][f"mask_{name}"] for fold in (0, 1, "mean", "sd", "test")]

    assert values("accuracy") == pytest.approx([2 / 3, 1, 5 / 6, math.sqrt(1 / 18), 1])
    assert values("balanced_accuracy") == pytest.approx([0.75, 1, 0.875, math.sqrt(1 / 32), 1])
    assert values("auc")[:3] == pytest.approx([0.75, 1, 0.875]) and math.isnan(values("auc")[-1])
    assert values("dice_malignant")[:3] == pytest.approx([0.5, 0.7, 0.6]) and math.isnan(values("dice_malignant")[-1])
    assert [lines[fold]["n_dice_benign"] for fold in lines] == [2, 1, 3, 3, 1]
    head, _, first, *_, test = markdown(summary(rows)).splitlines()
    columns = (
        "mask_accuracy | mask_balanced_accuracy | mask_auc | mask_dice_benign | n_dice_benign | mask_dice_malignant"
    )
    assert head.endswith(f"| mask_hd95 | n_hd95 | {columns} | n_dice_malignant |")
    assert first.endswith("| 0.5 | 3 | 0.6667 | 0.7500 | 0.7500 | 0.6000 | 2 | 0.5000 | 2 |")
    assert test.endswith("| 0.5 | 1 | 1.0000 | 1.0000 | – | 0.9000 | 1 | – | 0 |")


def test_parts_that_the_models_leave_out_count_in_no_row():
    """Two rows of 4 pixels, and one pixel apart: its evidence is an eighth of theirs."""
    truth, maps = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    truth[0, :2], maps[0, :2], maps[0, 3, 3] = 1, 0.9, 0.9
    item = {"id": "a", "image": "a.png", "patient": "p", "class": "benign"}
    of = partial(Prediction, "phase1", 0, item, {"coarse": Path("a")}, {})
    rows = [score_row(of(islands=share), "BUSI", maps, truth) for share in (0.0, 0.2)]
    assert [row["coarse_false_lesions"] for row in rows] == [1, 0]
    assert [row["coarse_dice"] for row in rows] == pytest.approx([16 / 17, 1])


def test_rows_without_classes_have_no_columns_of_them():
    assert columns_of(ROWS)[-2:] == ["worse_share", "better_share"] and columns_of([]) == ["n_dice", "n_iou", "n_hd95"]


def test_the_table_of_a_trained_study_tells_its_classes(class_cv):
    rows = read_rows(class_cv.out / "per_image.csv")
    assert {row["mask_class"] for row in rows} <= {"benign", "malignant"}
    assert class_cv.table == markdown(summary(rows)) and "| mask_accuracy | mask_balanced_accuracy |" in class_cv.table


def test_the_table_of_a_prompted_study_has_the_ellipse_line(prompted_cv):
    rows = read_rows(prompted_cv.out / "per_image.csv")
    assert {row["prompts"] for row in rows} == {"truth_box_10"}
    head, _, *lines = prompted_cv.table.splitlines()
    column = head.split(" | ").index("ellipse |")
    mean = sum(row["ellipse"] for row in rows if row["fold"] == "test") / sum(row["fold"] == "test" for row in rows)
    assert lines[-1].split(" | ")[column] == f"{mean:.4f} |"


def test_class_scores_of_a_trained_study_arrive_in_mlflow(class_cv):
    """Of the parent over folds, of each fold by epoch; the test set has one class, so that its AUC is not defined."""
    client = MlflowClient(class_cv.shared["tracking_uri"])
    (experiment,) = client.search_experiments(filter_string="name = 'PHANTOM'")
    runs = [run.data.metrics for run in client.search_runs([experiment.experiment_id])]
    (parent,) = [metrics for metrics in runs if "automedsam_mask_dice_mean" in metrics]
    of_mean = {line["fold"]: line for line in summary(read_rows(class_cv.out / "per_image.csv"))}["mean"]
    for name in ("mask_accuracy", "mask_balanced_accuracy", "mask_auc", "mask_dice_benign", "mask_dice_malignant"):
        assert parent[f"automedsam_{name}_mean"] == pytest.approx(of_mean[name])
        assert {f"automedsam_{name}_{end}" for end in ("sd", "test")} <= parent.keys()
        assert sum(f"val_{name}" in metrics for metrics in runs) == 2
    assert math.isnan(parent["automedsam_mask_auc_test"])


def test_the_page_of_a_study_in_mlflow_shows_its_table(class_cv):
    client = MlflowClient(class_cv.shared["tracking_uri"])
    (experiment,) = client.search_experiments(filter_string="name = 'PHANTOM'")
    assert experiment.tags[NOTE].startswith("Trainings on the data set PHANTOM.")
    noted = [run.data.tags[NOTE] for run in client.search_runs([experiment.experiment_id]) if NOTE in run.data.tags]
    table = short_table(summary(read_rows(class_cv.out / "per_image.csv")))
    assert noted == [f"AutoMedSAM, 2 folds\n\n```\n{table}\n```\n"]


def published(page, table):
    """The text of a page of results, and the raw rows beside it."""
    with (RESULTS / table).open(newline="") as file:
        return (RESULTS / page).read_text(encoding="utf-8"), list(csv.DictReader(file))


def test_the_published_table_follows_from_its_rows():
    rows = read_rows(RESULTS / "busbra_sample_cv.csv")
    assert markdown(summary(rows)) in (RESULTS / "busbra_sample.md").read_text(encoding="utf-8")


def test_the_published_dice_of_automedsam_follows_from_its_rows():
    """Those of each fold, their mean and of the test images."""
    text, rows = published("busbra_automedsam.md", "busbra_automedsam.csv")
    for method in ("one class", "two classes", "one class, tuned"):
        dice = {
            place: mean(float(row["dice"]) for row in rows if (row["method"], row["fold"]) == (method, place))
            for place in ("0", "1", "2", "3", "4", "test")
        }
        folds = [dice[place] for place in "01234"]
        told = [f"{value:.4f}" for value in (*folds, mean(folds), dice["test"])]
        assert f"| {method}, Dice | {' | '.join(told)} |" in text


def test_the_published_table_of_systems_follows_from_its_rows():
    text, rows = published("systems.md", "systems.csv")
    methods = dict.fromkeys(row["method"] for row in rows)
    assert len(methods) == 7
    for method in methods:
        dice = mean(float(row["dice"]) for row in rows if row["method"] == method)
        assert f"| {method} | {dice:.4f} [" in text


def test_the_published_rates_of_classes_follow_from_their_rows():
    """Accuracy, balanced accuracy and AUC with its interval by patient, as a report has them."""
    text, rows = published("busbra_automedsam.md", "automedsam_classes.csv")
    last = "two classes, normalised class head"
    lines = [
        ("two classes", "0", "without them"),
        ("two classes, class head", "0", "with class head and its loss"),
        (last, "0", "head on normalised means, larger rate"),
    ]
    folds = sorted({row["fold"] for row in rows if row["method"] == last} - {"test"})
    assert len(folds) == 5
    plain = [
        row
        for row in published("busbra_automedsam.md", "busbra_automedsam.csv")[1]
        if row["method"] == "one class, tuned"
    ]
    for places, said in [*((fold, fold) for fold in folds), (folds, "all folds"), (["test"], "test")]:
        one_class = mean(float(row["dice"]) for row in plain if row["fold"] in places)
        lines.append((last, places, f"{said} | {one_class:.4f}"))
    for method, places, name in lines:
        mine = [row for row in rows if row["method"] == method and row["fold"] in places]
        numbers = [{key: float(row[key]) for key in row if key.startswith(("mask_dice", "mask_prob"))} for row in mine]
        images = told([row | values for row, values in zip(mine, numbers, strict=True)])
        patients = [row["patient"] for row in mine]
        right, balanced, area = (
            statistic_by_patient(partial(RATES[rate], images), patients, 0)[0]
            for rate in ("accuracy", "balanced_accuracy", "auc")
        )
        dice, malignant = (
            mean(row[key] for row in numbers if not math.isnan(row[key]))
            for key in ("mask_dice", "mask_dice_malignant")
        )
        interval = f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"
        assert (
            f"| {name} | {dice:.4f} | {right.value:.3f} | {balanced.value:.3f} | {interval} | {malignant:.3f} |" in text
        )


def test_the_published_ablation_of_class_prompts_follows_from_its_rows():
    text, rows = published("busbra_automedsam.md", "automedsam_ablation.csv")
    for variant in dict.fromkeys(row["variant"] for row in rows):
        told = [row for row in rows if row["variant"] == variant and row["epoch"] in ("9", "10", "12")]
        assert told and " | ".join(f"{float(row['dice']):.4f}" for row in told) in text


def test_the_published_changes_of_class_prompts_follow_from_their_images():
    text, rows = published("busbra_automedsam.md", "automedsam_ablation_images.csv")
    patients = [row["patient"] for row in rows]
    variants = rows[0].keys() - {"image", "patient", "all"}
    changes = {name: [float(row[name]) - float(row["all"]) for row in rows] for name in variants}
    corrected = holm([signed_rank(change, patients) for change in changes.values()])
    for change, p in zip(changes.values(), corrected, strict=True):
        estimate = mean_by_patient(change, patients)
        interval = f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"
        assert f"| {interval} | {p:.2g} |" in text


def test_the_published_figures_of_uniultra_follow_from_their_rows():
    text, rows = published("busbra_uniultra.md", "uniultra_images.csv")
    patients = [row["patient"] for row in rows]

    def told(*names):
        """The mean with its interval; of two names that of the first without the second."""
        first, *second = ([float(row[name]) for row in rows] for name in names)
        estimate = mean_by_patient(np.subtract(first, *second) if second else first, patients)
        sign = "+" if second else ""
        return f"{estimate.value:{sign}.4f} [{estimate.low:{sign}.4f}, {estimate.high:{sign}.4f}]"

    for variant in ("decoder_only", "context_only", "all", "magnitude"):
        asked = [told(f"{variant} {way}") for way in ("truth_box", "truth_box_10", "truth_point", "auto_phase1")]
        assert f"| {' | '.join(asked)} |" in text
    for way in ("truth_box", "truth_box_10", "truth_point"):
        assert told(f"context_only {way}", f"all {way}") in text
    for way in ("truth_box_10", "truth_point"):
        assert told(f"magnitude {way}", f"all {way}") in text
    assert f"| {told('phase3')} | {told('all auto_phase3')} | {told('all auto_phase3', 'phase3')} |" in text
    assert told("ellipse") in text
    for student in ("student_features", "student_decoder_last"):
        assert f"| {told(f'{student} truth_box')} | {told(f'{student} truth_box_10')} |" in text


def test_the_published_figures_of_several_data_sets_follow_from_their_rows():
    text, rows = published("busbra_uniultra.md", "uniultra_pooled.csv")
    for training in ("pooled", "BUSI", "BUSBRA"):
        own = [row for row in rows if row["trained_on"] == training]
        dice = [f"{float(row['mask_dice']):.4f}" for row in own]
        assert f"| {own[0]['epochs']} | {' | '.join(dice)} |" in text


def test_the_published_clicks_follow_from_their_rows():
    text, rows = published("busbra_uniultra.md", "clicks.csv")
    for model in ("adapt", "phase3"):
        of_model = [row for row in rows if row["model"] == model]
        means = [mean(float(row["dice"]) for row in of_model if row["clicks"] == count) for count in "01235"]
        assert f"| {' | '.join(f'{value:.3f}' for value in means)} |" in text


def test_the_published_figures_of_refinement_follow_from_their_rows():
    text, rows = published("refinement.md", "refinement.csv")
    dice = {
        name: mean(float(row[f"{name}_dice"]) for row in rows) for name in ("coarse", "frozen", "tuned", "automedsam")
    }
    dice |= {name: mean(float(row[f"{name}_dice"]) for row in rows) for name in ("mean", "mean_of_three")}
    for name, line in (("frozen", "frozen, its embeddings cached"), ("tuned", "tuned, augmented anew each time")):
        gain = dice[name] - dice["coarse"]
        assert f"| {line} | {dice['coarse']:.4f} | {dice[name]:.4f} | {gain:+.4f} |" in text
    for name, line in (
        ("frozen", "phase 2, frozen"),
        ("automedsam", "AutoMedSAM"),
        ("mean", "mean of both"),
        ("mean_of_three", "mean with the coarse map, too"),
    ):
        assert f"| {line} | {dice[name]:.4f} [" in text


def test_the_published_figures_of_islands_follow_from_their_rows():
    text, rows = published("refinement.md", "islands.csv")

    def cells(name, split, share):
        found = [row for row in rows if row["split"] == split and row["share"] == share and name in ("", row["maps"])]
        images = [int(row["images"]) for row in found]
        dice, hd95 = (np.average([float(row[key]) for row in found], weights=images) for key in ("dice", "hd95"))
        counts = (sum(int(float(row[key])) for row in found) for key in ("false_lesions", "lesions_found", "lesions"))
        return f"{dice:.4f}", f"{hd95:.1f}", *counts

    for share in sorted({row["share"] for row in rows}):
        dice, hd95, false, hit, lesions = cells("", "val", share)
        assert f"| {float(share):g} | {dice} | {hd95} | {false} | {hit} of {lesions} |" in text
    for name, split, line in (
        ("coarse", "val", "coarse network, five folds | 570"),
        ("UltraRefiner, phase 2", "val", "UltraRefiner, phase 2, frozen | 114"),
        ("AutoMedSAM", "val", "AutoMedSAM, two classes | 114"),
        ("RFMedSAM 2, U-Net", "val", "RFMedSAM 2, U-Net | 114"),
        ("RFMedSAM 2, step 2", "val", "RFMedSAM 2, step 2 | 114"),
        ("coarse, mean of folds", "test", "coarse network, mean of folds, test | 182"),
        ("AutoMedSAM, BUSI", "external", "AutoMedSAM on BUSI, untouched | 121"),
        ("AutoMedSAM, BUS-UCLM", "external", "AutoMedSAM on BUS-UCLM, untouched | 36"),
    ):
        pairs = zip(cells(name, split, "0.0"), cells(name, split, "0.05"), strict=True)
        dice, hd95, false, hit, _ = (f"{before} | {after}" for before, after in pairs)
        assert f"| {line} | {dice} | {hd95} | {false} | {hit} |" in text


def test_markdown_has_a_line_each_and_signs_only_on_differences():
    text = markdown(summary(ROWS)).splitlines()
    assert len(text) == 2 + 5
    assert text[2].startswith("| phase2 | 0 | 2 | 0.7000 | 0.7000 | ")
    assert "| +0.0100 |" in text[-1]
