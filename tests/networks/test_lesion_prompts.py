"""Prompts of lesions by hand, jitter, the ellipse line, and several lesions in several images."""

import numpy as np
import pytest
import torch
from PIL import Image

from ultrarefiner_monai.networks import build_sam
from ultrarefiner_monai.networks.prompts.components import (
    component_boxes,
    component_points,
    ellipse_dice,
    inscribed_ellipses,
    jittered,
)
from ultrarefiner_monai.networks.prompts.lesions import (
    EMPTY_LOGIT,
    LesionPrompts,
    lesion_prompts,
    merge_masks,
    mixed_prompts,
)


def rectangles(*corners, shape=(20, 30)):
    mask = np.zeros(shape, bool)
    for left, top, right, bottom in corners:
        mask[top : bottom + 1, left : right + 1] = True
    return mask


def batch(*masks):
    return torch.from_numpy(np.stack(masks))[:, None]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_boxes_are_tight_inclusive_and_one_a_component():
    mask = rectangles((2, 3, 6, 8), (7, 9, 9, 9), (20, 0, 29, 4), (15, 15, 15, 15))  # the first two touch at a corner
    assert component_boxes(mask).tolist() == [[20, 0, 29, 4], [2, 3, 9, 9], [15, 15, 15, 15]]
    assert component_boxes(rectangles()).shape == (0, 4)


def test_the_first_point_is_the_deepest():
    assert component_points(rectangles((3, 2, 9, 6)), 1)[0].tolist() == [[5, 4]]  # the first of the middle line
    at_the_edge = component_points(rectangles((0, 0, 4, 4)), 1)[0]
    assert at_the_edge.tolist() == [[2, 2]]  # outside of the image there is no lesion


def test_further_points_are_inside_and_apart():
    mask = rectangles((3, 2, 18, 6), (25, 10, 27, 12), (10, 15, 10, 15))
    wide, small, pixel = component_points(mask, 3)
    assert wide.shape == small.shape == (3, 2) and pixel.tolist() == [[10, 15]]
    for x, y in np.concatenate([wide, small]).astype(int):
        assert mask[y, x]
    gaps = np.linalg.norm(wide[:, None] - wide[None], axis=2)[np.triu_indices(3, 1)]
    assert gaps.min() >= 3


def test_a_ring_has_its_point_on_the_ring():
    mask = rectangles((2, 2, 17, 17))
    mask[5:15, 5:15] = False
    (x, y), *_ = component_points(mask, 1)[0].astype(int)
    assert mask[y, x]


def test_jitter_moves_each_edge_by_a_share_of_its_side():
    boxes = torch.tensor([[100.0, 200.0, 149.0, 399.0]]).expand(500, -1)
    moved = jittered(boxes, 0.1, (512, 512), generator())
    most = (moved - boxes).abs().amax(0)
    assert (most <= torch.tensor([5.0, 20, 5, 20])).all() and (most > torch.tensor([4.9, 19.6, 4.9, 19.6])).all()
    assert (moved - boxes).mean(0).abs().max() < 1.5
    assert torch.equal(moved, jittered(boxes, 0.1, (512, 512), generator()))
    assert torch.equal(moved[:3], jittered(boxes[:3], 0.1, (512, 512), generator()))
    assert torch.equal(boxes, jittered(boxes, 0.0, (512, 512), generator()))


def test_jittered_boxes_stay_boxes_inside_the_image():
    boxes = torch.tensor([[0.0, 0.0, 29.0, 19.0], [4.0, 4.0, 4.0, 4.0]]).repeat(200, 1)
    moved = jittered(boxes, 0.49, (20, 30), generator())
    assert (moved[:, :2] <= moved[:, 2:]).all() and moved.min() >= 0
    assert moved[:, 0::2].max() <= 29 and moved[:, 1::2].max() <= 19
    assert jittered(boxes[:0], 0.1, (20, 30), generator()).shape == (0, 4)
    with pytest.raises(ValueError, match=r"expected a share of the side from 0 to below 0.5, found 0.5"):
        jittered(boxes, 0.5, (20, 30))


def test_ellipses_by_hand():
    assert inscribed_ellipses(np.array([[1, 1, 3, 3]]), (5, 5)).astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    ellipse = inscribed_ellipses(np.array([[10, 20, 109, 69]]), (100, 120))
    assert ellipse.sum() == pytest.approx(np.pi * 50 * 25, rel=5e-3)
    assert ellipse_dice(ellipse) == 1.0
    rectangle = ellipse_dice(rectangles((10, 20, 109, 69), shape=(100, 120)))
    assert rectangle == pytest.approx(2 * np.pi / 4 / (1 + np.pi / 4), abs=3e-3)
    assert np.isnan(ellipse_dice(rectangles()))


def test_the_ellipse_line_of_real_lesions(shared_data):
    paths = sorted((shared_data / "BUS-BRA" / "BUSBRA" / "Masks").glob("*.png"))[::8]
    line = np.mean([ellipse_dice(np.asarray(Image.open(path).convert("L")) > 127) for path in paths])
    assert line == pytest.approx(0.895, abs=0.01)  # 0.8946 over all 752 images of the sample


def test_prompts_of_a_batch():
    masks = batch(rectangles((2, 3, 6, 8), (12, 3, 16, 8)), rectangles(), rectangles((5, 5, 5, 5)))
    found = lesion_prompts(masks, "box_and_point", points=2)
    assert found.image.tolist() == [0, 0, 2]
    assert found.boxes.tolist() == [[2, 3, 6, 8], [12, 3, 16, 8], [5, 5, 5, 5]]
    assert found.labels.tolist() == [[1, 1], [1, 1], [1, -1]] and found.points[2, 0].tolist() == [5, 5]
    assert lesion_prompts(masks).points is None and lesion_prompts(masks, "points").boxes is None
    blank = lesion_prompts(masks[1:2], "box_and_point")
    assert blank.boxes.shape == (0, 4) and blank.points.shape == (0, 1, 2) and blank.image.shape == (0,)


def test_wrong_requests_are_named():
    masks = batch(rectangles())
    with pytest.raises(ValueError, match=r"must be \(B, 1, H, W\), found \(1, 20, 30\)"):
        lesion_prompts(masks[0])
    with pytest.raises(ValueError, match="one of box, points, box_and_point, found 'circle'"):
        lesion_prompts(masks, "circle")
    with pytest.raises(ValueError, match="expected at least 1, found 0"):
        lesion_prompts(masks, "points", points=0)
    with pytest.raises(ValueError, match=r"sum to 1, found \[0.6, 0.2\]"):
        mixed_prompts(masks, (0.6, 0.2))


def test_mixed_prompts_keep_their_chances():
    masks = batch(rectangles((2, 3, 16, 18)))
    draw = generator()
    drawn = [mixed_prompts(masks, generator=draw) for _ in range(300)]
    boxes = [prompts for prompts in drawn if prompts.points is None]
    points = [prompts for prompts in drawn if prompts.boxes is None]
    assert len(boxes) / 300 == pytest.approx(0.6, abs=0.08) and len(points) / 300 == pytest.approx(0.2, abs=0.07)
    assert {prompts.points.shape[1] for prompts in points} == {1, 2, 3}
    rest = [prompts for prompts in drawn if prompts.boxes is not None and prompts.points is not None]
    assert rest and all(prompts.points.shape[1] == 1 for prompts in rest)
    tight = torch.tensor([2.0, 3.0, 16.0, 18.0])
    assert all(0 < (prompts.boxes - tight).abs().max() <= 1.6 for prompts in boxes)
    assert mixed_prompts(masks, generator=generator()).image.equal(mixed_prompts(masks, generator=generator()).image)


def test_masks_merge_by_their_maximum():
    logits = torch.tensor([1.0, -3.0, 2.0, -1.0]).view(4, 1, 1, 1).expand(-1, 1, 2, 2).clone().requires_grad_()
    merged = merge_masks(logits, torch.tensor([0, 2, 0, 2]), 3)
    assert merged[:, 0, 0, 0].tolist() == [2, EMPTY_LOGIT, -1]
    merged.sum().backward()
    assert logits.grad[:, 0, 0, 0].tolist() == [0, 0, 1, 1]
    assert (merge_masks(logits[:0], torch.tensor([], dtype=torch.long), 2) == EMPTY_LOGIT).all()


def segment(sam, embedding, masks, rows):
    """Masks of images from the boxes of their lesions, in one call of the decoder."""
    prompts = lesion_prompts(masks)
    logits, _ = sam.decode(embedding[rows][prompts.image], boxes=prompts.boxes, tokens=slice(0, 1))
    return merge_masks(logits, prompts.image, len(masks))


def test_a_batch_of_images_equals_its_images():
    """Three lesions, one, none; and a lesion that is added takes no pixel of the others."""
    torch.manual_seed(0)
    sam = build_sam("tiny", 64)
    three = rectangles((2, 3, 20, 18), (30, 30, 40, 50), (50, 3, 60, 9), shape=(64, 64))
    masks = batch(three, rectangles((10, 10, 40, 40), shape=(64, 64)), rectangles(shape=(64, 64)))
    with torch.no_grad():
        embedding = sam.embed(torch.rand(3, 1, 64, 64))
        whole = segment(sam, embedding, masks, slice(None))
        assert (whole[2] == EMPTY_LOGIT).all()
        for number in range(2):
            alone = segment(sam, embedding, masks[number : number + 1], slice(number, number + 1))
            torch.testing.assert_close(whole[number : number + 1], alone)
        fewer = masks.clone()
        fewer[0, :, 30:51, 30:41] = False
        assert (whole[0] >= segment(sam, embedding, fewer, slice(None))[0] - 1e-5).all()


def test_prompts_are_parted_by_number_and_by_image():
    image = torch.tensor([0, 0, 2, 3])
    prompts = LesionPrompts(image, torch.arange(16.0).view(4, 4))
    parts = prompts.split(3)
    assert [part.image.tolist() for part in parts] == [[0, 0, 2], [3]] and parts[1].boxes.tolist() == [[12, 13, 14, 15]]
    assert parts[0].points is None
    later = prompts.of_images(slice(1, 4))
    assert later.image.tolist() == [1, 2] and torch.equal(later.boxes, prompts.boxes[2:])
    (nothing,) = prompts.of_images(slice(1, 2)).split(64)
    assert len(nothing.image) == 0 and nothing.boxes.shape == (0, 4)


def test_prompts_of_a_picture_on_its_square():
    """A picture of 100 x 200 pixels on a square of 100: the outer edges of its pixels stay where they are."""
    prompts = LesionPrompts(torch.zeros(1, dtype=torch.long), torch.tensor([[0.0, 10.0, 199.0, 99.0]]))
    assert prompts.on_square((100, 200), 100).boxes.tolist() == [[-0.25, 4.75, 99.25, 49.25]]
    masks = torch.zeros(1, 1, 100, 200)
    masks[..., 20:60, 40:80] = 1
    square = prompts._replace(masks=masks).on_square((100, 200), 100).masks
    assert square.shape == (1, 1, 100, 100)
    assert square[0, 0, 10:30, 20:40].mean() > 0.95 and square.sum() == pytest.approx(400, rel=0.01)


def test_of_many_lesions_the_largest_of_each_image_are_kept():
    corners = torch.tensor([[0.0, 0, 1, 1], [0, 0, 9, 9], [0, 0, 5, 5], [3, 3, 3, 3]])
    prompts = LesionPrompts(torch.tensor([0, 0, 0, 1]), corners)
    kept = prompts.largest(2)
    assert kept.image.tolist() == [0, 0, 1] and torch.equal(kept.boxes, corners[1:])
    with pytest.raises(ValueError, match="told by their boxes"):
        LesionPrompts(prompts.image).largest(2)


def test_prompts_go_to_a_square_and_back():
    """Masks come back from any grid: of 25 x 25 cells for a square of 100, a cell is 4 x 4 of its pixels."""
    image = torch.zeros(1, dtype=torch.long)
    asked = LesionPrompts(image, torch.tensor([[3.0, 10.0, 150.0, 99.0]]), torch.tensor([[[5.0, 6.0]]]), image[:, None])
    back = asked.on_square((100, 200), 100).off_square((100, 200), 100)
    torch.testing.assert_close(back.boxes, asked.boxes)
    torch.testing.assert_close(back.points, asked.points)
    cells = torch.zeros(1, 1, 25, 25)
    cells[..., 2:6, 5:10] = 1  # of the image the rows 16 to 47 and the columns 40 to 79
    masks = asked._replace(masks=cells).off_square((100, 200), 100).masks
    assert masks.shape == (1, 1, 100, 200)
    assert (
        masks[0, 0, 20:44, 44:76].min() > 0.9
        and masks[0, 0, :11].max() < 0.1
        and masks.sum() == pytest.approx(1280, rel=0.02)
    )


def test_prompts_come_back_from_a_square_of_a_spacing():
    """Pixels of an image 20 high and 40 wide are two pixels high and one wide in the square."""
    asked = LesionPrompts(torch.zeros(1, dtype=torch.long), torch.tensor([[10.0, 20.0, 19.0, 39.0]]))
    boxes = asked.off_square((20, 40), 64, (2.0, 1.0)).boxes
    torch.testing.assert_close(boxes, torch.tensor([[10.0, 9.75, 19.0, 19.25]]))
