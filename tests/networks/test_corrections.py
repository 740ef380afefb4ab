"""Clicks and boxes that correct a map, by hand, and what the refiner makes of them."""

import numpy as np
import pytest
import torch

from ultrarefiner_monai.networks import PromptGenerator, SamRefiner, build_sam
from ultrarefiner_monai.networks.prompts.corrections import click_discs, corrected, with_clicks, within_box
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts
from ultrarefiner_monai.networks.refiner import with_corrections

SIZE = 64


def square(left=10, right=49, side=100):
    mask = np.zeros((side, side), bool)
    mask[left : right + 1, left : right + 1] = True
    return mask


def clicks(*points):
    return np.array([point[:2] for point in points], np.float32).reshape(-1, 2), np.array(
        [point[2] for point in points]
    )


@pytest.mark.parametrize(("x", "label"), [(55, 1), (44, 0)])
def test_a_click_that_contradicts_the_mask_moves_the_outline_past_it(x, label):
    """Six pixels from the outline: the disc of what is nearer than that, 109 pixels of about 36 pi."""
    said = click_discs(square(), *clicks((x, 30, label)))
    rows, columns = np.nonzero(said == label)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (x - 5, x + 5, 25, 35)
    assert len(rows) == 109 and set(np.unique(said)) == {-1, label}
    changed = with_clicks(square().astype(np.float32), *clicks((x, 30, label))) != square()
    assert np.array_equal(changed, said == label)


def test_a_click_that_agrees_with_the_mask_changes_nothing():
    soft = square() * np.float32(0.8)
    points, labels = clicks((30, 30, 1), (12, 12, 1), (80, 80, 0), (52, 30, 0))
    assert np.array_equal(with_clicks(soft, points, labels) >= 0.5, soft >= 0.5)


def test_a_disc_reaches_a_fifth_of_the_longer_side_at_most_and_its_pixel_at_least():
    blank = np.zeros((50, 100), bool)
    assert (click_discs(blank, *clicks((40, 25, 1))) == 1).sum(0).max() == 39
    assert (click_discs(~blank, *clicks((40, 25, 0))) == 0).sum(1).max() == 39
    assert (click_discs(square(), *clicks((50, 30, 1))) == 1).sum() == 1  # beside the outline
    assert (click_discs(blank, *clicks((99.4, 49.4, 1))) == 1)[49, 99]


def test_of_two_clicks_the_nearer_one_speaks():
    said = click_discs(np.zeros((100, 100), bool), *clicks((40, 50, 1), (48, 50, 0), (70, 50, -1)))
    assert said[50, 20:70].tolist() == [-1] + [1] * 24 + [0] * 23 + [-1] * 2
    assert said[50, 70] == -1


def test_no_lesion_is_left_outside_of_a_box_and_an_empty_box_holds_an_ellipse():
    box = np.array([20, 20, 29, 39], np.float32)
    soft = square() * np.float32(0.9)
    kept = within_box(soft, box)
    rows, columns = np.nonzero(kept)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (19, 30, 18, 41)  # a tenth of 10 and of 20 pixels
    assert np.array_equal(kept[kept > 0], soft[kept > 0])
    ellipse = within_box(np.zeros((100, 100), np.float32), box)
    assert (
        ellipse.sum() == pytest.approx(np.pi / 4 * 10 * 20, rel=0.05) and ellipse[30, 25] == 1 and not ellipse[20, 20]
    )


def test_each_map_of_a_batch_has_its_own_corrections():
    maps = torch.from_numpy(np.stack([square()] * 3)[:, None].astype(np.float32))
    prompts = LesionPrompts(
        torch.tensor([2, 0]), points=torch.tensor([[[55.0, 30.0]], [[44.0, 30.0]]]), labels=torch.tensor([[1], [0]])
    )
    found = corrected(maps, prompts)
    assert torch.equal(found[1], maps[1]) and (found.sum((1, 2, 3)) - maps.sum((1, 2, 3))).sign().tolist() == [-1, 0, 1]
    masks = torch.zeros(2, 1, 100, 100)
    assert corrected(maps, prompts._replace(masks=masks))[0].sum() == 0
    assert maps[0].sum() == 1600  # what came in is left alone


@pytest.fixture(scope="module")
def refiners():
    torch.manual_seed(0)
    sam = build_sam("tiny", SIZE)
    return {kind: SamRefiner(sam, PromptGenerator(**points)).eval() for kind, points in POINTS.items()}


POINTS = {"points": {}, "boxes": {"positive_points": 0, "negative_points": 0}}


def asked(box=None):
    points = torch.tensor([[[45.0, 30.0], [15.0, 20.0]]])
    boxes = None if box is None else torch.tensor([box])
    return LesionPrompts(torch.tensor([0]), boxes, points, torch.tensor([[1, 0]]))


@pytest.mark.parametrize("kind", POINTS)
def test_clicks_are_points_where_sam_knows_points_and_a_box_is_its_box(kind, refiners):
    coarse = torch.from_numpy(square(10, 39, SIZE)[None, None].astype(np.float32))
    generated = refiners[kind].prompts(coarse)
    found = with_corrections(generated, asked([12.0, 8.0, 50.0, 40.0]))
    assert found.boxes.tolist() == [[12, 8, 50, 40]]
    if kind == "boxes":
        assert found.points is None and found.labels is None
    else:
        assert torch.equal(found.points[:, :2], generated.points) and found.labels.tolist() == [[1, 0, 1, 0]]
        assert found.points[0, 2:].tolist() == [[45, 30], [15, 20]]


@pytest.mark.parametrize("kind", POINTS)
def test_the_fused_mask_follows_clicks(kind, refiners):
    x = torch.rand(1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    x[:, 1] = torch.from_numpy(square(10, 39, SIZE).astype(np.float32))
    with torch.no_grad():
        plain, again = refiners[kind](x), refiners[kind](x, prompts=None)
        found = refiners[kind](x, prompts=asked(), return_parts=True)
    assert torch.equal(plain, again)
    assert (found.coarse_logits[0, 0, 30, 40:50] > 0).all() and (found.coarse_logits[0, 0, 20, 10:20] < 0).all()
    assert (found.logits[0, 0, 30, 40:50] > 0).all()  # the mean of 1 and SAM's probability
    assert (found.logits[0, 0, 20, 10:20] < 0).all()


def test_a_box_finds_a_lesion_that_the_map_has_missed(refiners):
    x = torch.rand(1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    x[:, 1] = 0
    box = LesionPrompts(torch.tensor([0]), torch.tensor([[10.0, 12.0, 40.0, 34.0]]))
    with torch.no_grad():
        found = refiners["boxes"](x, prompts=box, return_parts=True)
    assert not found.prompts.empty.any() and found.prompts.boxes.tolist() == box.boxes.tolist()
    assert (found.coarse_logits > 0).sum() == pytest.approx(np.pi / 4 * 31 * 23, rel=0.05)
