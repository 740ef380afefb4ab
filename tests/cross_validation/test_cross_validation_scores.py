"""Scores of hand-made rows."""

import math
from pathlib import Path

import pytest

from ultrarefiner_monai.cross_validation.scores import markdown, summary
from ultrarefiner_monai.metrics.scores_file import read_rows

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


def test_the_published_table_follows_from_its_rows():
    results = Path(__file__).resolve().parents[2] / "docs" / "results"
    rows = read_rows(results / "busbra_sample_cv.csv")
    assert markdown(summary(rows)) in (results / "busbra_sample.md").read_text(encoding="utf-8")


def test_markdown_has_a_line_each_and_signs_only_on_differences():
    text = markdown(summary(ROWS)).splitlines()
    assert len(text) == 2 + 5
    assert text[2].startswith("| phase2 | 0 | 2 | 0.7000 | 0.7000 | ")
    assert "| +0.0100 |" in text[-1]
