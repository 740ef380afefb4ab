"""Clicks and boxes of a request: what is refused, the prompts that they become, and what they do to a mask; no server needed."""

import json
import shutil
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt

from ultrarefiner_monai.data.images import read_grey
from ultrarefiner_monai.deploy.monailabel.clicks import asked_lesions, lesions_beside
from ultrarefiner_monai.deploy.monailabel.parts import (
    MODEL,
    AdjustedInferer,
    MaskForClientd,
    card_of,
    preprocessing,
    stage_of,
)
from ultrarefiner_monai.deploy.monailabel.request import checked, click_keys
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.models import load_segmenter
from ultrarefiner_monai.networks.prompts.corrections import with_clicks

CODE = "$__import__('os').system('true')"
HEIGHT, WIDTH = 60, 96


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A picture that is neither square nor symmetric."""
    path = tmp_path_factory.mktemp("picture") / "one.png"
    Image.fromarray((np.add.outer(np.arange(HEIGHT), 2 * np.arange(WIDTH)) % 256).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def served(models, tmp_path_factory):
    """Folders as a server has them, without a model that finds or proposes anything."""
    folder = tmp_path_factory.mktemp("served")
    for phase in ("phase2", "phase3", "adapt"):
        shutil.copytree(models[phase].parent, folder / phase / "models")
    return folder


class Answer(NamedTuple):
    """The mask (H, W) that a client gets, what is told with it, and the network's logits (outputs, S, S)."""

    mask: np.ndarray
    told: dict
    logits: torch.Tensor


@pytest.fixture(scope="module")
def ask(served, picture):
    """The answer to a request, by the transforms of the exported configurations."""
    networks = {
        phase: load_segmenter(served / phase / MODEL, device="cpu").network for phase in ("phase2", "phase3", "adapt")
    }

    def answer(phase, label=None, **request):
        bundle = served / phase
        if label is not None:
            Image.fromarray(label.astype(np.uint8)).save(picture.with_name("label.png"))
            request["label"] = str(picture.with_name("label.png"))
        asked = checked(request, click_keys(card_of(bundle)), own={"label"})
        item = prepared(bundle, image=str(picture), **asked)
        with torch.no_grad():
            logits = item["pred"] = AdjustedInferer(bundle, {})(item["image"][None], networks[phase])[0]
        item = MaskForClientd("pred", stage_of(bundle).outputs)(item)
        return Answer(item["pred"].T.astype(bool), item["result"], logits)

    return answer


def prepared(bundle, **request):
    """A request after the transforms, called one after the other as the server does, which lets errors through."""
    for transform in preprocessing(bundle).transforms:
        request = transform(request)
    return request


def rectangles(*corners):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for left, top, right, bottom in corners:
        mask[top : bottom + 1, left : right + 1] = True
    return mask


@pytest.fixture(scope="module")
def keys(models):
    return click_keys(json.loads(models["adapt"].with_suffix(".json").read_text()))


@pytest.mark.parametrize("sent", [[], [[3, 4]], [[3, 4.5], [0, 0, 0]], [[-0.4, 7, 12]]])
def test_clicks_are_points_with_or_without_a_third_number(sent, keys):
    assert checked({"foreground": sent}, keys)["foreground"] == [[float(x), float(y)] for x, y, *_ in sent]


@pytest.mark.parametrize("sent", [[10, 40, 5, 25], [40, 10, 25, 5], [10, 40, 5, 25, 0, 0]])
def test_a_box_is_read_as_3d_slicer_sends_it_whatever_its_axes_count(sent, keys):
    assert checked({"roi": sent}, keys)["roi"] == [10, 5, 40, 25]
    assert checked({"roi": []}, keys)["roi"] == []


NO_CLICKS = [
    "[[1, 2]]",
    CODE,
    [1, 2],
    [[1]],
    [[1, 2, 3, 4]],
    [["1", "2"]],
    [[True, False]],
    [[None, 1]],
    [[float("nan"), 1]],
    [[1, float("inf")]],
    [[10**400, 1]],
    [[1e300, 1]],
    [[1, 2]] * 101,
    [CODE],
    [[CODE, CODE]],
    {"0": [1, 2]},
    5,
]


@pytest.mark.parametrize("value", NO_CLICKS, ids=range(len(NO_CLICKS)))
@pytest.mark.parametrize("name", ["foreground", "background"])
def test_what_is_no_list_of_points_is_refused_in_a_short_line(name, value, keys):
    with pytest.raises(
        DataError, match=rf"^request: {name}: expected a list of at most 100 points \[x, y\], found "
    ) as told:
        checked({name: value}, keys)
    assert len(str(told.value)) < 300 and "\n" not in str(told.value)


NO_BOXES = [
    "[1, 2, 3, 4]",
    [1, 2, 3],
    [1, 2, 3, 4, 5],
    [1, 1, 3, 4],
    [1, 2, 3, 3],
    [1, 2, 3, float("nan")],
    [CODE] * 4,
    {},
    0,
]


@pytest.mark.parametrize("value", NO_BOXES, ids=range(len(NO_BOXES)))
def test_what_is_no_box_is_refused(value, keys):
    with pytest.raises(DataError, match=r"^request: roi: expected \[x1, x2, y1, y2\]"):
        checked({"roi": value}, keys)


def test_the_name_of_a_segment_passes_and_no_path_does(keys):
    assert checked({"label": "lesion"}, keys) == {"label": "lesion"}
    with pytest.raises(DataError, match=r"^request: label: expected a name"):
        checked({"label": "/etc/passwd"}, keys)


@pytest.mark.parametrize("phase", ["phase1", "automedsam"])
def test_models_that_clicks_change_nothing_of_know_none(phase, models):
    assert click_keys(json.loads(models[phase].with_suffix(".json").read_text())) == []


@pytest.mark.parametrize("request_", [{"foreground": [[96, 5]]}, {"background": [[5, -1]]}, {"roi": [-3, 10, 2, 9]}])
@pytest.mark.parametrize("phase", ["phase3", "adapt"])
def test_what_lies_outside_of_the_picture_is_refused(phase, request_, served, picture):
    with pytest.raises(DataError, match="lies outside of the picture, which has 96x60 pixels"):
        prepared(served / phase, image=str(picture), **request_)


def test_a_model_that_is_asked_about_lesions_asks_for_a_click(served, picture):
    with pytest.raises(
        DataError, match=r"click on one .'foreground'., draw a box .* or export the model with --coarse MODEL"
    ):
        prepared(served / "adapt", image=str(picture), foreground=[], roi=[])
    with pytest.raises(DataError, match=r"a background click corrects a mask, and there is none"):
        prepared(served / "adapt", image=str(picture), background=[[5, 5]])


def points(*clicks):
    return np.array([click[:2] for click in clicks], np.float32).reshape(-1, 2), np.array(
        [click[2] for click in clicks]
    )


def test_clicks_without_a_mask_are_one_prompt_of_points():
    found = asked_lesions(*points((5, 6, 1), (9, 9, 0)), None, np.zeros((HEIGHT, WIDTH), np.float32))
    assert found.boxes is None and found.masks is None
    assert (found.points.tolist(), found.labels.tolist()) == ([[[5, 6], [9, 9]]], [[1, 0]])


def test_clicks_concern_the_lesion_that_they_touch_and_the_others_stay():
    mask = rectangles((10, 10, 29, 29), (60, 20, 79, 39)).astype(np.float32)
    found = asked_lesions(*points((82, 30, 1)), None, mask)  # three pixels beside the second
    assert found.boxes.tolist() == [[60, 20, 84, 39], [10, 10, 29, 29]]
    assert found.labels.tolist() == [[1], [-1]]
    assert found.masks[0, 0, 30, 82] == 1 and found.masks.sum((1, 2, 3))[1] == 400 and not found.masks[0, 0, 15, 15]
    near = asked_lesions(*points((62, 30, 0)), None, mask)
    assert near.boxes.tolist() == [[60, 20, 79, 39], [10, 10, 29, 29]] and near.labels.tolist() == [[0], [-1]]
    assert near.masks[0, 0, 30, 62] == 0


def test_a_background_click_in_the_middle_of_a_small_lesion_leaves_nothing_to_ask_about():
    found = asked_lesions(*points((11, 11, 0)), None, rectangles((10, 10, 12, 12)).astype(np.float32))
    assert len(found.image) == len(found.boxes) == 0


def test_a_box_says_which_lesion_is_meant_and_how_large_it_is():
    mask = rectangles((10, 10, 29, 29), (60, 20, 79, 39)).astype(np.float32)
    found = asked_lesions(*points(), np.array([58, 18, 81, 41], np.float32), mask)
    assert found.boxes.tolist() == [[58, 18, 81, 41]] and found.masks.sum() == 400 and found.points is None
    blank = asked_lesions(*points((70, 30, 1)), np.array([58, 18, 81, 41], np.float32), 0 * mask)
    assert blank.boxes.tolist() == [[58, 18, 81, 41]] and blank.labels.tolist() == [[1]] and blank.masks is None


@pytest.mark.parametrize("phase", ["phase2", "phase3", "adapt"])
def test_a_background_click_removes_pixels_around_it_and_a_foreground_click_adds_some(phase, ask):
    before = rectangles((20, 15, 60, 45))
    usual, told, _ = ask(phase, label=before, foreground=[[40, 30]])
    assert told["prompts"] == ["label", "clicks"] and usual[30, 40]
    outside, inside = deepest(~usual), deepest(usual)
    more = ask(phase, label=before, foreground=[[40, 30], outside]).mask
    less = ask(phase, label=before, foreground=[[40, 30]], background=[inside]).mask
    reach = 0 if phase == "adapt" else 1  # the mask of a network that has learnt nothing is full of holes
    assert around(more, outside, reach).all() and not around(less, inside, reach).any()
    assert not around(usual, outside, reach).any() and around(usual, inside, reach).all()


def deepest(part):
    """The place in `part` that is deepest inside it, as [x, y]; not that of the click which is there already."""
    depth = distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    depth[24:37, 34:47] = 0
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return [int(column), int(row)]


def around(mask, place, reach):
    x, y = place
    return mask[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]


@pytest.mark.parametrize("phase", ["phase3", "adapt"])
def test_the_answer_tells_what_was_used(phase, ask):
    assert ask(phase, foreground=[[40, 30]], roi=[20, 60, 15, 45]).told["prompts"] == ["clicks", "box"]
    assert ask("phase2", label=rectangles((20, 15, 60, 45))).told["prompts"] == ["label"]


def test_without_clicks_a_mask_is_what_it_was(ask, served, picture):
    mask, told, _ = ask("phase3", foreground=[], background=[], roi=[])
    assert told["prompts"] == []
    assert np.array_equal(mask, load_segmenter(served / "phase3" / MODEL)(read_grey(picture)) >= 0.5)


def test_a_network_that_knows_boxes_alone_gets_points_where_there_is_no_box():
    mask, box = rectangles((10, 10, 29, 29)).astype(np.float32), np.array([5, 5, 35, 35], np.float32)
    click = points((15, 15, 1))
    for asked in ((*click, None, mask), (*click, box, mask), (*click, box, 0 * mask)):
        assert asked_lesions(*asked).points is not None
        assert asked_lesions(*asked, points_beside_box=False).points is None
    assert asked_lesions(*click, None, 0 * mask, points_beside_box=False).points is not None


def test_a_network_that_is_not_told_clicks_is_asked_about_the_same_lesions_and_new_ones():
    first, second = (10, 10, 29, 29), (60, 20, 79, 39)
    mask = rectangles(first, second).astype(np.float32)
    beside = partial(lesions_beside, mask=mask, new_alone=False)
    both = beside(*points((82, 30, 1), (12, 12, 0)))  # whatever their discs do to these lesions
    assert both.boxes.tolist() == [list(first), list(second)]
    small = rectangles(first, (60, 20, 62, 22)).astype(np.float32)
    assert lesions_beside(*points((61, 21, 0)), small, False).boxes.tolist() == [list(first)]  # which the click removes
    new = [76, 36, WIDTH - 1, HEIGHT - 1]  # around a disc of 19.2 pixels, which touches neither
    assert beside(*points((95, 55, 1))).boxes.tolist() == [list(first), list(second), new]
    assert lesions_beside(*points((95, 55, 1)), mask, new_alone=True).boxes.tolist() == [new]
    assert len(lesions_beside(*points((82, 30, 1)), mask, new_alone=True).image) == 0


def test_clicks_change_discs_alone_of_what_litemedsam_answers_and_of_a_mask_that_is_sent(ask):
    """Each click at a time with the mask so far, and all of them at once."""
    sent = rectangles((20, 15, 60, 45))
    once = ask("adapt", label=sent, background=[[24, 30]]).mask
    assert np.array_equal(once, with_clicks(sent.astype(np.float32), *points((24, 30, 0))) >= 0.5)
    twice = ask("adapt", label=once, background=[[24, 30]], foreground=[[64, 30]]).mask
    changed = with_clicks(once.astype(np.float32), *points((24, 30, 0), (64, 30, 1))) >= 0.5
    assert np.array_equal(twice, changed) and twice[30, 64] and not twice[30, 24]
    with_box = ask("adapt", label=sent, roi=[20, 60, 15, 45], background=[[24, 30]])
    assert len(with_box.logits) and not with_box.mask[30, 24]


def test_masks_of_several_lesions_are_merged(ask):
    two, one = rectangles((5, 5, 30, 30), (60, 20, 85, 50)), rectangles((60, 20, 85, 50))
    merged, alone = (ask("adapt", label=label).logits for label in (two, one))
    assert (merged >= alone - 0.1).all() and (merged > alone + 0.1).any()  # bf16


def test_clicks_do_not_stay_with_the_next_request(ask):
    first = ask("phase3").mask
    ask("phase3", foreground=[[3, 3]], roi=[0, 9, 0, 9])
    assert np.array_equal(ask("phase3").mask, first)
