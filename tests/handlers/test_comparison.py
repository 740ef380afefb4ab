"""Per-image metrics, means, counts, the table and the CSV, in one process and in two."""

import csv
import json
import logging
import math
import os

import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine

from ultrarefiner_monai.handlers import CompareMasks
from ultrarefiner_monai.handlers.comparison import comparison_table, score_image, summarise_rows


def square(rows, size=10):
    """A mask (size, size) with its first rows set."""
    mask = torch.zeros(size, size)
    mask[:rows] = 1
    return mask


def image(name, truth, *preds):
    item = {"id": name, "patient": f"p-{name}", "class": "benign", "truth": square(truth)[None].bool()}
    return item, {"pred": torch.stack([0.9 * square(rows) for rows in preds])}


def evaluate(folder, images):
    """One image an iteration, as a real evaluator leaves them after decollating."""

    def step(engine, batch):
        engine.state.batch = [batch[0]]
        return [batch[1]]

    engine = Engine(step)
    CompareMasks(folder).attach(engine)
    engine.run(images)
    engine.run(images)  # a second validation starts from nothing
    return engine.state.metrics


# Dice 2 * min / sum of rows: coarse 2/3 -> refined 1; 1 -> 2/3; blank truth and blank masks; missed by both.
IMAGES = [image("a", 4, 2, 4), image("b", 4, 4, 8), image("c", 0, 0, 0), image("d", 5, 0, 0)]


def test_means_deltas_and_counts_by_hand(tmp_path):
    metrics = evaluate(tmp_path, IMAGES)
    assert metrics["coarse_dice"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert metrics["refined_dice"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metrics["delta_dice"] == pytest.approx(0, abs=1e-6)
    assert metrics["coarse_dice_undefined"] == metrics["delta_dice_undefined"] == 1
    assert metrics["refined_hd95_undefined"] == 2
    assert metrics["coarse_recall"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert metrics["worse_share"] == metrics["better_share"] == pytest.approx(1 / 3)


def test_the_csv_has_a_row_an_image_with_undefined_as_nan(tmp_path):
    evaluate(tmp_path, IMAGES)
    with (tmp_path / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == ["id", "patient", "class", "coarse_dice", "refined_dice", "coarse_iou", "refined_iou"]
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"] and rows[0]["patient"] == "p-a"
    assert float(rows[0]["coarse_dice"]) == pytest.approx(2 / 3)
    assert rows[2]["coarse_dice"] == "nan" and rows[3]["refined_hd95"] == "nan"
    assert not list(tmp_path.glob(".*"))


def test_one_channel_has_the_coarse_half_under_the_same_names(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        metrics = evaluate(tmp_path, [image("a", 4, 2), image("b", 4, 4)])
    assert metrics["coarse_dice"] == pytest.approx((2 / 3 + 1) / 2)
    assert not any("refined" in name or "delta" in name or "share" in name for name in metrics)
    assert "refined" not in (tmp_path / "per_image.csv").read_text()
    assert "coarse" in caplog.text and "▲" not in caplog.text


def test_the_table_marks_better_and_worse_also_where_lower_is_better(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        evaluate(tmp_path, [image("a", 4, 2, 4), image("b", 4, 3, 4)])
    table = {line.split()[0]: line for line in caplog.messages[-1].splitlines()}
    assert "▲" in table["dice"] and "▲  -1" in table["hd95"].replace(".5000", "") and "=" in table["precision"]
    assert "lower by more than 0.02: 0.0 % of images, higher: 100.0 %" in table["Dice"]
    worse = comparison_table(evaluate(tmp_path, [image("a", 4, 4, 2)]), 1)
    assert "▼" in worse and "▲ better" in worse


def test_a_change_of_exactly_the_limit_is_no_change():
    rows = [
        {"id": str(i), **scores(coarse, refined)} for i, (coarse, refined) in enumerate([(0.5, 0.52), (0.5, 0.521)])
    ]
    assert summarise_rows(rows)["better_share"] == 0.5


def scores(coarse, refined):
    names = ("dice", "iou", "hd95", "precision", "recall")
    return {f"{stage}_{name}": value for name in names for stage, value in (("coarse", coarse), ("refined", refined))}


def test_all_undefined_is_nan_and_counted(tmp_path):
    metrics = evaluate(tmp_path, [image("c", 0, 0, 0)])
    assert math.isnan(metrics["refined_dice"]) and metrics["refined_dice_undefined"] == 1
    assert math.isnan(metrics["worse_share"])


def test_sizes_that_differ_and_nan_are_named(caplog):
    with pytest.raises(ValueError, match=r"case7: prediction \(1, 4, 4\), truth \(1, 4, 5\)"):
        score_image(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5), 0.5, "case7")
    score_image(torch.full((1, 4, 4), math.nan), torch.ones(1, 4, 4), 0.5, "case7")
    assert "case7: the prediction has NaN" in caplog.text


def test_two_processes_count_padded_samples_once(tmp_path, fork):
    """Five images on two ranks: a distributed sampler gives rank 1 the first image a second time."""
    five = [*IMAGES, image("e", 6, 3, 5)]
    shares = [[five[0], five[2], five[4]], [five[1], five[3], five[0]]]

    def validate(rank):
        dist.init_process_group("gloo", f"file://{tmp_path}/rendezvous", rank=rank, world_size=2)
        metrics = evaluate(tmp_path / "both", shares[rank])
        (tmp_path / f"rank{rank}.json").write_text(json.dumps(metrics))

    children = [fork(lambda rank=rank: validate(rank)) for rank in (0, 1)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    alone = evaluate(tmp_path / "alone", five)
    for rank in (0, 1):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == pytest.approx(alone, nan_ok=True)
    assert (tmp_path / "both" / "per_image.csv").read_text() == (tmp_path / "alone" / "per_image.csv").read_text()


def test_a_real_evaluator_leaves_what_the_handler_needs(make_run, tmp_path):
    run = make_run(val_handlers=[CompareMasks(tmp_path)])
    run.evaluator.run()
    assert 0 <= run.evaluator.state.metrics["refined_dice"] <= 1
    assert len((tmp_path / "per_image.csv").read_text().splitlines()) == 7
