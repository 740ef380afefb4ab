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
from ultrarefiner_monai.handlers.comparison import comparison_table
from ultrarefiner_monai.metrics.scores import calibrate_image, score_image, summarise_rows


def square(rows, size=10):
    """A mask (size, size) with its first rows set."""
    mask = torch.zeros(size, size)
    mask[:rows] = 1
    return mask


def image(name, truth, *preds):
    item = {"id": name, "patient": f"p-{name}", "class": "benign", "truth": square(truth)[None].bool()}
    return item, {"pred": torch.stack([0.9 * square(rows) for rows in preds])}


NAMES = {1: ("coarse",), 2: ("coarse", "refined"), 3: ("unet", "step1", "step2")}


def evaluate(folder, images, **settings):
    """One image an iteration, as a real evaluator leaves them after decollating."""

    def step(engine, batch):
        engine.state.batch = [batch[0]]
        return [batch[1]]

    engine = Engine(step)
    CompareMasks(folder, NAMES[len(images[0][1]["pred"])], **settings).attach(engine)
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
    assert (metrics["lesions"], metrics["coarse_lesion_sensitivity"], metrics["delta_lesion_sensitivity"]) == (
        3,
        2 / 3,
        0,
    )


def test_an_island_counts_in_no_score_and_stays_in_the_calibration(tmp_path):
    """Three rows of ten, and four pixels apart from them: 4 / 30 of the evidence."""
    item, found = image("a", 3, 3)
    found["pred"][0, 6:8, 6:8] = 0.9
    scores = {share: evaluate(tmp_path / str(share), [(item, found)], islands=share) for share in (0.1, 0.2)}
    assert [scores[share]["coarse_false_lesions"] for share in scores] == [1, 0]
    assert [scores[share]["coarse_dice"] for share in scores] == pytest.approx([60 / 64, 1])
    assert scores[0.1]["coarse_ece"] == scores[0.2]["coarse_ece"]


def test_all_outputs_of_a_metric_are_over_the_same_images(tmp_path, caplog):
    """HD95 by hand: outlines of masks of 2 and 4 of 10 rows are 2 rows apart; a blank mask has none."""
    images = [image("both", 4, 2, 4), image("lost by refining", 4, 8, 0), image("missed at first", 4, 0, 5)]
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        metrics = evaluate(tmp_path, images)
    assert (metrics["coarse_hd95"], metrics["refined_hd95"], metrics["delta_hd95"]) == (2, 0, -2)
    assert metrics["n_hd95"] == 1 and metrics["n_dice"] == 3
    assert metrics["coarse_hd95_undefined"] == metrics["refined_hd95_undefined"] == 1
    assert metrics["delta_hd95_undefined"] == 2
    assert metrics["refined_dice"] - metrics["coarse_dice"] == pytest.approx(metrics["delta_dice"])
    table = {line.split()[0]: line.split() for line in caplog.messages[-1].splitlines()}
    assert table["hd95"] == ["hd95", "(px)", "2.0000", "0.0000", "▲", "-2.0000", "1", "1", "1"]


def test_names_of_the_metrics(tmp_path):
    """Configurations, reports and the tracker rely on them."""
    means = (
        "dice",
        "iou",
        "precision",
        "recall",
        "specificity",
        "hd95",
        "assd",
        "nsd",
        "boundary_iou",
        "false_lesions",
    )
    stages = ("coarse", "refined", "delta")
    names = {f"{stage}_{name}{end}" for stage in stages for name in means for end in ("", "_undefined")}
    names |= {f"n_{name}" for name in means}
    names |= {f"{stage}_{name}" for stage in stages for name in ("lesion_sensitivity", "ece", "ece_lesion")}
    lesions_only = evaluate(tmp_path, [image("a", 4, 2, 4)])
    assert set(lesions_only) == names | {"lesions", "worse_share", "better_share"}
    normals = {f"false_positive_{name}{end}" for name in ("rate", "area") for end in ("", "_undefined")}
    counts = {"n_false_positive_rate", "n_false_positive_area"}
    assert set(evaluate(tmp_path, IMAGES)) - set(lesions_only) == counts | {f"{s}_{n}" for s in stages for n in normals}


def test_the_csv_has_a_row_an_image_with_undefined_as_nan(tmp_path):
    evaluate(tmp_path, IMAGES)
    with (tmp_path / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == ["id", "patient", "class", "coarse_dice", "refined_dice", "coarse_iou", "refined_iou"]
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"] and rows[0]["patient"] == "p-a"
    assert float(rows[0]["coarse_dice"]) == pytest.approx(2 / 3)
    assert rows[2]["coarse_dice"] == "nan" and rows[3]["refined_hd95"] == "nan"
    assert [row["lesions"] for row in rows] == ["1", "1", "0", "1"] and {row["unit"] for row in rows} == {"px"}
    assert [row["coarse_lesions_found"] for row in rows] == ["1.0", "1.0", "0.0", "0.0"]
    assert [row["refined_false_positive"] for row in rows] == ["nan", "nan", "0.0", "nan"]
    assert not list(tmp_path.glob(".*"))


def test_one_channel_has_the_coarse_half_under_the_same_names(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        metrics = evaluate(tmp_path, [image("a", 4, 2), image("b", 4, 4)])
    assert metrics["coarse_dice"] == pytest.approx((2 / 3 + 1) / 2)
    assert not any("refined" in name or "delta" in name or "share" in name for name in metrics)
    assert "refined" not in (tmp_path / "per_image.csv").read_text()
    assert "coarse" in caplog.text and "▲" not in caplog.text


def test_three_outputs_are_compared_from_the_first_to_the_last(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        metrics = evaluate(tmp_path, [image("a", 4, 2, 0, 4), image("b", 4, 4, 4, 8)])
    dices = [metrics[f"{name}_dice"] for name in ("unet", "step1", "step2", "delta")]
    assert dices == pytest.approx([(2 / 3 + 1) / 2, 0.5, (1 + 2 / 3) / 2, 0], abs=1e-6)
    assert metrics["worse_share"] == metrics["better_share"] == 0.5
    assert metrics["delta_ece"] == pytest.approx(metrics["step2_ece"] - metrics["unet_ece"])
    assert list(json.loads((tmp_path / "reliability.json").read_text()))[2:] == ["unet", "step1", "step2"]
    rows = list(csv.DictReader((tmp_path / "per_image.csv").open(newline="")))
    assert list(rows[0])[3:6] == ["unet_dice", "step1_dice", "step2_dice"]
    _, head, dice, *_ = caplog.messages[-1].splitlines()
    assert head.split() == ["metric", "unet", "step1", "step2", "delta", "n", "undefined", "(unet,", "step1,", "step2)"]
    assert dice.split() == ["dice", "0.8333", "0.5000", "0.8333", "=", "+0.0000", "2", "0", "0", "0"]
    assert head.index("step2") + len("step2") == dice.index("0.8333 =") + len("0.8333")


def class_image(name, true, lesion_rows, malignant):
    """A 10 x 10 image whose lesion is found in so many rows with probability 0.9, of which a share is malignant."""
    lesion = 0.9 * square(lesion_rows)
    item = {"id": name, "patient": f"p-{name}", "class": true, "truth": square(4)[None].bool()}
    return item, {"pred": torch.stack([lesion, lesion * (1 - malignant), lesion * malignant])}


@pytest.mark.parametrize("outputs", [("mask",), ("coarse", "mask")])
def test_scores_of_classes_are_told_last_and_are_of_the_last_output(tmp_path, caplog, outputs):
    images = [
        class_image("a", "benign", 4, 0.25),
        class_image("b", "benign", 4, 0.75),
        class_image("c", "malignant", 2, 0.5625),
    ]
    for _, output in images:
        output["pred"] = torch.cat([torch.zeros(len(outputs) - 1, 10, 10), output["pred"]])

    def step(engine, batch):
        engine.state.batch = [batch[0]]
        return [batch[1]]

    engine = Engine(step)
    CompareMasks(tmp_path, outputs, classes=("benign", "malignant")).attach(engine)
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        engine.run(images)
    metrics = engine.state.metrics
    assert (metrics["mask_accuracy"], metrics["mask_auc"], metrics["n_accuracy"]) == (pytest.approx(2 / 3), 0.5, 3)
    assert metrics["mask_dice_benign"] == 0.5 and metrics["mask_dice_malignant"] == pytest.approx((0 + 2 / 3) / 2)
    found = caplog.messages[-1].splitlines()
    lines = {line.split()[0]: line for line in found}
    shown = ("accuracy", "balanced_accuracy", "auc", "dice_benign", "dice_malignant")
    assert [line.split()[0] for line in found][-len(shown) - (len(outputs) - 1) :][: len(shown)] == list(shown)
    assert [lines[name].split()[1:] for name in shown] == [
        ["0.6667", "3"],
        ["0.7500", "3"],
        ["0.5000", "3"],
        ["0.5000", "2"],
        ["0.3333", "2"],
    ]
    assert len(lines["auc"]) == len(lines["metric"].partition("  undefined")[0])  # its count stands below the others
    rows = list(csv.DictReader((tmp_path / "per_image.csv").open(newline="")))
    assert [row["mask_class"] for row in rows] == ["benign", "malignant", "malignant"]
    assert "coarse_accuracy" not in metrics and float(rows[1]["mask_probability_malignant"]) == pytest.approx(0.75)


def test_an_area_that_is_not_defined_is_told(tmp_path, caplog):
    """A validation in which all images are of one class."""
    metrics = {"mask_dice": 0.5, "mask_accuracy": 1.0, "mask_balanced_accuracy": 1.0, "mask_auc": math.nan}
    metrics |= {"mask_dice_a": 0.5, "mask_dice_b": math.nan, "n_dice_a": 2, "n_dice_b": 0}
    metrics |= dict.fromkeys(("n_accuracy", "n_balanced_accuracy", "n_auc"), 2)
    table = {line.split()[0]: line.split()[1:] for line in comparison_table(metrics, 2).splitlines()}
    assert table["auc"] == ["nan", "2"] and table["dice_b"] == ["nan", "0"]


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


# Normals: nothing predicted, 20 px predicted by the coarse network only, 10 px by both.
NORMALS = [image("a", 0, 0, 0), image("b", 0, 2, 0), image("c", 0, 1, 1)]


@pytest.mark.parametrize("source", ["truth_box", "auto"])
def test_what_is_asked_about_true_lesions_has_the_ellipse_beside_it(source, tmp_path, caplog):
    """The ellipse in a box of 10 x 4 pixels has 32 of its 40: rows of 6, 10, 10 and 6."""
    with caplog.at_level(logging.INFO):
        metrics = evaluate(tmp_path, [image("a", 4, 2)], prompts=source)
    (row,) = csv.DictReader((tmp_path / "per_image.csv").open())
    assert row["prompts"] == source
    if source == "auto":
        assert "ellipse" not in row and "ellipse" not in metrics
    else:
        assert float(row["ellipse"]) == metrics["ellipse"] == pytest.approx(2 * 32 / (32 + 40))
        assert "the ellipses in their boxes have a Dice of 0.8889" in caplog.text


def test_normals_have_false_positives_in_place_of_dice(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        metrics = evaluate(tmp_path, NORMALS)
    assert metrics["coarse_false_positive_rate"] == pytest.approx(2 / 3)
    assert metrics["refined_false_positive_rate"] == pytest.approx(1 / 3)
    assert metrics["coarse_false_positive_area"] == pytest.approx(0.1)
    assert metrics["delta_false_positive_area"] == pytest.approx(-2 / 30)
    assert metrics["coarse_false_lesions"] == pytest.approx(2 / 3)
    table = {line.split()[0]: line for line in caplog.messages[-1].splitlines()}
    assert "0.6667   0.3333 ▲  -0.3333     3" in table["false_positive_rate"]
    assert "specificity" in table and "ece" in table
    assert not {"dice", "hd95", "nsd", "recall", "lesion_sensitivity", "ece_lesion"} & set(table)


def test_among_lesions_false_positives_count_the_normals_only(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        metrics = evaluate(tmp_path, [image("d", 5, 0, 0), *NORMALS])
    assert metrics["refined_false_positive_rate"] == pytest.approx(1 / 3)
    assert metrics["refined_false_positive_rate_undefined"] == 1
    assert "dice" in caplog.messages[-1] and "false_positive_rate" in caplog.messages[-1]


def test_without_normals_there_is_no_line_on_them(tmp_path):
    assert "false_positive" not in comparison_table(evaluate(tmp_path, [image("a", 4, 2, 4)]), 1)


def with_spacing(case, spacing):
    return ({**case[0], "spacing": torch.tensor(spacing)}, case[1])


def test_a_known_spacing_gives_millimetres(tmp_path, caplog):
    images = [image("a", 4, 2, 4), image("b", 4, 4, 8)]
    pixels = evaluate(tmp_path, images)
    with caplog.at_level(logging.INFO, "ultrarefiner_monai"):
        millimetres = evaluate(tmp_path, [with_spacing(case, (0.1, 0.1)) for case in images])
    assert millimetres["coarse_hd95"] == pytest.approx(0.1 * pixels["coarse_hd95"])
    assert millimetres["delta_assd"] == pytest.approx(0.1 * pixels["delta_assd"])
    assert millimetres["refined_nsd"] == pixels["refined_nsd"]
    assert "hd95 (mm)" in caplog.messages[-1] and "nsd (2 px)" in caplog.messages[-1]
    assert "mm" in (tmp_path / "per_image.csv").read_text()


def test_pixels_and_millimetres_are_never_averaged(tmp_path):
    metrics = evaluate(tmp_path, [with_spacing(image("a", 4, 2, 4), (0.1, 0.1)), image("b", 4, 4, 8)])
    alone = evaluate(tmp_path, [with_spacing(image("a", 4, 2, 4), (0.1, 0.1))])
    assert metrics["coarse_hd95"] == alone["coarse_hd95"] and metrics["coarse_hd95_undefined"] == 1
    assert metrics["coarse_dice_undefined"] == 0


def test_calibration_over_all_images(tmp_path):
    metrics = evaluate(tmp_path, [image("a", 4, 2, 4), image("b", 4, 4, 8)])
    # probabilities 0.9 and 0: coarse 60 px at 0.9, all of them lesion, and 20 missed among 140
    assert metrics["coarse_ece"] == pytest.approx(0.3 * 0.1 + 20 / 200)
    assert metrics["refined_ece"] == pytest.approx((120 * 0.9 - 80) / 200)
    assert metrics["delta_ece"] == pytest.approx(metrics["refined_ece"] - metrics["coarse_ece"])
    # the lesion and 1 px around it: 5 rows of each image, of which coarse misses 2 in the first
    assert metrics["coarse_ece_lesion"] == pytest.approx((60 * 0.1 + 20) / 100)
    diagram = json.loads((tmp_path / "reliability.json").read_text())
    assert diagram["images"] == 2 and diagram["edges"][0] == 0 and diagram["edges"][-1] == 1
    assert len(diagram["edges"]) == len(diagram["coarse"]["all"]["pixels"]) + 1
    assert diagram["coarse"]["all"]["pixels"][0] == 140 and diagram["coarse"]["all"]["pixels"][13] == 60
    assert diagram["coarse"]["all"]["accuracy"][0] == pytest.approx(20 / 140)
    assert diagram["refined"]["lesion"]["ece"] == pytest.approx(metrics["refined_ece_lesion"])


def test_a_map_of_nan_is_background_to_the_mask_and_nothing_to_the_calibration():
    pred, truth = torch.full((1, 4, 4), math.nan), torch.ones(1, 4, 4)
    assert score_image(pred, truth, ["coarse"], "case7")["coarse_recall"] == 0
    assert not calibrate_image(pred, truth).any()


def test_all_undefined_is_nan_and_counted(tmp_path):
    metrics = evaluate(tmp_path, [image("c", 0, 0, 0)])
    assert math.isnan(metrics["refined_dice"]) and metrics["refined_dice_undefined"] == 1
    assert math.isnan(metrics["worse_share"])


def test_sizes_that_differ_and_nan_are_named(caplog):
    with pytest.raises(ValueError, match=r"case7: prediction \(1, 4, 4\), truth \(1, 4, 5\)"):
        score_image(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5), ["coarse"], "case7")
    with pytest.raises(ValueError, match=r"case7: prediction \(3, 4, 4\).*expected 2 channels \(coarse, refined\)"):
        score_image(torch.zeros(3, 4, 4), torch.zeros(1, 4, 4), NAMES[2], "case7")
    score_image(torch.full((1, 4, 4), math.nan), torch.ones(1, 4, 4), ["coarse"], "case7")
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
    for name in ("per_image.csv", "reliability.json"):
        assert (tmp_path / "both" / name).read_text() == (tmp_path / "alone" / name).read_text()


def test_a_real_evaluator_leaves_what_the_handler_needs(make_run, tmp_path):
    run = make_run(val_handlers=[CompareMasks(tmp_path, NAMES[2])])
    run.evaluator.run()
    assert 0 <= run.evaluator.state.metrics["refined_dice"] <= 1
    assert len((tmp_path / "per_image.csv").read_text().splitlines()) == 7
