"""Scores of hand-made rows."""

import math

import pytest

from ultrarefiner_monai.cross_validation.scores import markdown, summary

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


def test_markdown_has_a_line_each_and_signs_only_on_differences():
    text = markdown(summary(ROWS)).splitlines()
    assert len(text) == 2 + 5
    assert text[2].startswith("| phase2 | 0 | 2 | 0.7000 | 0.7000 | ")
    assert "| +0.0100 |" in text[-1]
