"""Clicks and boxes over HTTP: which models take them, what they do, what is refused, as programs send them."""

import json

import numpy as np
import pytest
from label_server import ASKED, png

from ultrarefiner_monai.data.images import read_grey, read_mask

pytestmark = pytest.mark.monailabel

CODE = "$__import__('os').system('true')"


@pytest.fixture(scope="module")
def one(server):
    """A picture of the server: its name, its true mask, a place on its lesion, and a corner without."""
    image = sorted(path.stem for path in server.pictures.glob("*.png"))[1]
    truth = read_mask(server.truth(image))
    rows, columns = np.nonzero(truth)
    middle = len(rows) // 2
    return image, truth, [int(columns[middle]), int(rows[middle])]


def told(server, phase, image, files=None, **params):
    answer = server.post(
        f"/infer/{phase}", params={"image": image, "output": "json"}, data={"params": json.dumps(params)}, files=files
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def label(mask):
    return {"label": ("before.png", png(mask), "image/png")}


def test_models_that_take_clicks_are_listed_where_programs_look_for_them(server):
    types = {name: found["type"] for name, found in server.get("/info/").json()["models"].items()}
    assert {name for name, kind in types.items() if kind == "deepgrow"} == {
        "adapt",
        "distill",
        ASKED,
        "phase2_clicks",
        "phase3_clicks",
    }
    assert types["phase1"] == types["phase2"] == types["phase3"] == types["automedsam"] == "segmentation"


@pytest.mark.parametrize("phase", [ASKED, "adapt", "phase2_clicks", "phase3_clicks", "phase3"])
def test_a_click_on_the_lesion_is_in_the_mask_and_one_beside_it_is_not(phase, server, one):
    image, _, place = one
    usual = server.infer(phase, image, foreground=[place])
    assert usual[place[1], place[0]] == 1
    assert server.infer(phase, image, foreground=[[*place, 0]], background=[])[place[1], place[0]] == 1
    rows, columns = np.nonzero(usual)
    wrong = [int(columns[0]), int(rows[0])]
    less = server.infer(phase, image, foreground=[place], background=[wrong])
    assert less[wrong[1], wrong[0]] == 0


@pytest.mark.parametrize("phase", [ASKED, "adapt", "phase3_clicks"])
def test_a_box_and_the_mask_so_far_go_with_clicks(phase, server, one):
    image, truth, place = one
    height, width = truth.shape
    box = [0, width - 1, 0, height - 1]
    found = told(server, phase, image, label(truth), foreground=[place], roi=box, label="lesion")
    assert found["prompts"] == ["label", "clicks", "box"]
    assert told(server, phase, image, foreground=[place], roi=box)["prompts"][-2:] == ["clicks", "box"]


def test_without_clicks_a_model_with_a_finder_finds_and_one_without_asks_for_a_click(server, one):
    image = one[0]
    assert told(server, "adapt", image)["prompts"] == ["finder"]
    answer = server.ask(ASKED, image, foreground=[], background=[])
    assert answer.status_code == 400 and "click on one ('foreground')" in answer.json()["detail"]
    assert np.array_equal(server.infer("phase3_clicks", image), server.infer("phase3", image))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"foreground": [[5000, 5]]}, "lies outside of the picture"),
        ({"background": [[5, -7]], "foreground": [[5, 5]]}, "lies outside of the picture"),
        ({"foreground": [[1, 2]] * 101}, "at most 100 points"),
        ({"foreground": "[[1, 2]]"}, "a list of at most 100 points"),
        ({"foreground": [[CODE, CODE]]}, "a list of at most 100 points"),
        ({"foreground": [[float("nan"), 1]]}, "a list of at most 100 points"),
        ({"roi": [4, 4, 5, 9]}, "expected [x1, x2, y1, y2]"),
        ({"roi": CODE}, "expected [x1, x2, y1, y2]"),
        ({"roi": [-900, 5, 1, 9]}, "lies outside of the picture"),
        ({"background": [[5, 5]]}, "a background click corrects a mask"),
        ({"points": [[5, 5]]}, "unknown key 'points'"),
    ],
)
def test_clicks_that_make_no_sense_are_refused_in_one_line(params, said, server, one):
    answer = server.ask(ASKED, one[0], **params)
    assert answer.status_code == 400
    detail = answer.json()["detail"]
    assert said in detail and "\n" not in detail and len(detail) < 400


@pytest.mark.parametrize(("path", "name"), [("/infer/phase1", "foreground"), ("/batch/infer/phase3", "roi")])
def test_clicks_are_for_one_picture_and_for_models_that_use_them(path, name, server, one):
    if "batch" in path:
        answer = server.post(path, json={name: [1, 2, 3, 4]})
    else:
        answer = server.post(path, params={"image": one[0]}, data={"params": json.dumps({name: [[1, 2]]})})
    assert answer.status_code == 400 and f"unknown key '{name}'" in answer.json()["detail"]


def test_an_uploaded_picture_takes_clicks_too(server, one):
    path = server.picture(one[0])
    height, width = read_grey(path).shape
    files = {"file": (path.name, path.read_bytes(), "image/png")}
    mask = server.infer(ASKED, files=files, foreground=[[width // 2, height // 2]])
    assert mask.shape == (height, width) and mask[height // 2, width // 2] == 1
