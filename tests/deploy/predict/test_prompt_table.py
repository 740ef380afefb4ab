"""Models that are asked about lesions: tables of boxes and points, another model's lesions, and what cannot be asked."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.predict import Outputs, predict
from ultrarefiner_monai.deploy.predict.prompt_table import read_prompts
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models.segmenter import load_segmenter
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts


@pytest.fixture
def model(make_model):
    return make_model("adapt")[0]


@pytest.fixture
def pictures(picture, tmp_path):
    """The picture in two folders, and alone under another name."""
    paths = [tmp_path / "first" / "a.png", tmp_path / "second" / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        shutil.copy(picture, path)
    return paths


def table(path, *rows):
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return path


def masks(out):
    return {path.relative_to(out / "masks").as_posix(): np.asarray(Image.open(path)) > 0 for path in out.rglob("*.png")}


def test_a_table_of_boxes_says_which_lesions_are_meant(model, pictures, tmp_path):
    boxes = table(
        tmp_path / "boxes.csv", "x1,file,y1,x2,y2", f"20,{pictures[0]},30,90,80", "5,b.png,5,40,40", "-9,b,50,60,99"
    )
    summary = predict([pictures[0], pictures[2]], model, Outputs(tmp_path / "out"), boxes=boxes)
    assert summary.exit_code == 0
    grey = read_grey(pictures[0])
    found = torch.tensor([[20.0, 30.0, 90.0, 80.0]])
    expected = load_segmenter(model).predict(grey, prompts=LesionPrompts(torch.zeros(1, dtype=torch.long), found))
    assert 0 < (expected.probability >= 0.5).mean() < 1
    np.testing.assert_array_equal(masks(tmp_path / "out")["a.png"], expected.probability >= 0.5)
    rows = list(csv.DictReader((tmp_path / "out/measures.csv").open()))
    assert float(rows[0]["sam_predicted_iou"]) == pytest.approx(expected.quality)


def test_a_point_asks_too_and_two_lesions_are_one_mask(model, pictures, tmp_path):
    lines = ["file,x,y", "b.png,30,40", "b.png,90,60"]
    for name, rows in (("left", lines[:2]), ("right", [lines[0], lines[2]]), ("both", lines)):
        predict(pictures[2], model, Outputs(tmp_path / name), points=table(tmp_path / f"{name}.csv", *rows))
    left, right, both = (masks(tmp_path / name)["b.png"] for name in ("left", "right", "both"))
    union = left | right  # of finer grids than SAM's own, on which the maximum is taken: edges differ a little
    assert (left ^ right).mean() > 0.02 > 0.002 > (union & ~both).mean() and (both & ~union).mean() < 0.05


def test_another_model_says_which_lesions_are_meant(model, make_model, picture, tmp_path):
    finder = make_model("automedsam")[0]
    predict(picture, model, Outputs(tmp_path / "out"), auto=finder)
    grey = read_grey(picture)
    lesions = load_segmenter(finder)(grey)
    assert 0 < (lesions >= 0.5).mean() < 1
    expected = load_segmenter(model).predict(grey, lesions).probability
    np.testing.assert_array_equal(masks(tmp_path / "out")[f"{picture.stem}.png"], expected >= 0.5)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [one["file"] for one in report["coarse_models"]] == [str(finder)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "adapt is asked about lesions; say which with --boxes FILE, --points FILE or --auto MODEL"),
        ({"boxes": "t.csv", "auto": "m"}, "--boxes and --auto: a model is asked in one way"),
        ({"coarse": "m", "points": "t.csv"}, "--coarse feeds a model, --points says what one is asked about"),
        ({"boxes": "nowhere.csv"}, "nowhere.csv: cannot be read"),
    ],
)
def test_a_model_is_asked_in_one_way(asked, message, model, picture, tmp_path):
    with pytest.raises(DataError, match=message):
        predict(picture, model, Outputs(tmp_path / "out"), **asked)
    assert not (tmp_path / "out").exists()


def test_other_models_are_asked_about_nothing(make_model, picture, tmp_path):
    boxes = table(tmp_path / "boxes.csv", "file,x1,y1,x2,y2", f"{picture.name},1,2,30,40")
    with pytest.raises(DataError, match="phase1 is asked about nothing; leave --boxes out"):
        predict(picture, make_model("phase1")[0], Outputs(tmp_path / "out"), boxes=boxes)
    with pytest.raises(DataError, match="a model of adapt finds nothing by itself"):
        predict(picture, make_model("adapt")[0], Outputs(tmp_path / "out"), auto=make_model("adapt")[0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["file,x1,y1,x2", "b.png,1,2,3"], "expected columns file, x1, y1, x2, y2, each once, found file, x1, y1, x2"),
        ([], "expected columns file, x1, y1, x2, y2, each once, found nothing"),
        (["file,x1,y1,x2,y2", "c.png,1,2,3,4"], "row 2: 'c.png' is none of the files that are predicted"),
        (["file,x1,y1,x2,y2,x1", "b.png,1,2,3,4,9"], "each once, found"),
        (["file,x1,y1,x2,y2", "b.png"], "row 2: expected 5 values, found 1"),
        (["file,x1,y1,x2,y2", "b.png,10,5,20,7,30,40"], "row 2: expected 5 values, found 7"),
        (["file,x1,y1,x2,y2", "b.png,1,2,nan,4"], "row 2: expected numbers in pixels"),
        (["file,x1,y1,x2,y2", "b.png,1,2,$1+2,4"], "row 2: expected numbers in pixels"),
        (["file,x1,y1,x2,y2", "b.png,9,2,3,4"], "row 2: expected x1 <= x2 and y1 <= y2"),
        (["file,x1,y1,x2,y2", "a.png,1,2,3,4"], "row 2: 'a.png' is .*first/a.png or .*second/a.png; give its path"),
    ],
)
def test_a_table_that_says_nothing_clear_is_refused(rows, message, pictures, tmp_path):
    with pytest.raises(DataError, match=message):
        read_prompts(table(tmp_path / "t.csv", *rows), "boxes", pictures)


def test_a_damaged_picture_is_passed_over_with_its_row(model, pictures, tmp_path):
    pictures[0].write_bytes(b"no picture")
    boxes = table(tmp_path / "boxes.csv", "file,x1,y1,x2,y2", f"{pictures[0]},1,2,30,40", "b.png,5,5,40,40")
    summary = predict([pictures[0], pictures[2]], model, Outputs(tmp_path / "out"), boxes=boxes)
    assert [path for path, _ in summary.failures] == [str(pictures[0])] and len(summary.rows) == 1


def test_a_picture_that_no_row_names_and_a_box_outside_are_passed_over(model, pictures, tmp_path):
    boxes = table(tmp_path / "boxes.csv", "file,x1,y1,x2,y2", "b.png,9000,9000,9010,9010")
    summary = predict([pictures[0], pictures[2]], model, Outputs(tmp_path / "out"), boxes=boxes)
    reasons = [reason for _, reason in summary.failures]
    assert summary.exit_code == 1 and not summary.rows
    assert reasons[0].endswith("a.png: no row says which lesions are meant")
    assert "b.png: prompt 1 lies outside of its " in reasons[1]
