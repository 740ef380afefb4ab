"""Prompts: hand-computed cases, gradients, and real lesions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from made_maps import ALL, MAPS, disc, gradients, rectangle
from PIL import Image
from scipy.ndimage import gaussian_filter

from ultrarefiner_monai.networks.prompts import PromptGenerator, expected_gaps, mask_logits, scale_gradient


def test_box_of_a_binary_rectangle_is_its_pixels():
    boxes = ALL(rectangle(10, 20, 39, 29)).boxes
    torch.testing.assert_close(boxes, torch.tensor([[10.0, 20.0, 39.0, 29.0]]), atol=0.05, rtol=0)


def test_expected_gaps_equal_the_sum_over_outcomes():
    # One row: columns hit with m = 0.5, 0.8 and the first hit is at 0 or 1: E = 0.5 * 0.8 / (1 - 0.5 * 0.2) = 4 / 9.
    evidence = torch.logit(torch.tensor([0.5, 0.8], dtype=torch.float64)).expand(1, 2, 2)
    left, _, right, _ = expected_gaps(evidence)[0].tolist()
    assert left == pytest.approx(0.5 * 0.8 / 0.9)
    assert right == pytest.approx(0.2 * 0.5 / 0.9)


def test_single_pixel_gets_a_box_one_pixel_wide():
    torch.testing.assert_close(
        ALL(MAPS["single_pixel"]).boxes, torch.tensor([[19.5, 39.5, 20.5, 40.5]]), atol=0.01, rtol=0
    )


def test_margin_grows_the_box_by_a_share_of_its_size():
    tight = ALL(rectangle(20, 24, 39, 33)).boxes
    wide = PromptGenerator(box_margin=0.1)(rectangle(20, 24, 39, 33)).boxes
    torch.testing.assert_close(wide - tight, torch.tensor([[-1.9, -0.9, 1.9, 0.9]]), atol=0.01, rtol=0)


def test_points_of_a_disc_are_its_centre_and_background_beside_it():
    points, labels, *_ = PromptGenerator()(disc(30, 25, 12))
    assert labels.tolist() == [[1, 0]]
    torch.testing.assert_close(points[0, 0], torch.tensor([30.0, 25.0]), atol=0.1, rtol=0)
    assert 12 < math.dist(points[0, 1].tolist(), (30, 25)) < 1.4 * math.sqrt(2) * 12


def test_positive_points_stay_in_the_crescent_and_visit_both_lesions():
    for name in ("crescent", "two_lesions"):
        points = ALL(MAPS[name]).points[0, :2].round().long()
        assert (MAPS[name][0, 0, points[:, 1], points[:, 0]] > 0.5).all(), name
    first, second = ALL(MAPS["two_lesions"]).points[0, :2].tolist()
    assert math.dist(first, second) > 30


def test_mask_logits_are_logits_of_the_averaged_probability():
    prob = torch.zeros(1, 1, 8, 8)
    prob[..., :4] = 1
    logits = mask_logits(prob, (2, 2))
    # Antialiased halving by 4: each cell is a triangle-weighted mean over 8 columns, 7/8 and 1/8 after the edge's cut.
    weights = torch.tensor([1, 3, 5, 7, 7, 5, 3, 1.0])[2:]
    left = (weights[:4].sum() / weights.sum()).item()
    expected = [math.log(p / (1 - p)) for p in (0.001 + 0.998 * q for q in (left, 1 - left))]
    torch.testing.assert_close(logits[0, 0, 0], torch.tensor(expected), atol=1e-4, rtol=0)


def test_mask_gradient_reaches_every_pixel():
    gradient = gradients(ALL, disc(30, 25, 12, size=128))["mask"]
    assert (gradient > 0).all()
    prob = disc(30, 25, 12, size=128).requires_grad_()
    mask_logits(prob, (32, 32)).mean().backward()
    assert (prob.grad > 0).all()


def test_box_gradient_widens_and_narrows_the_box():
    gradient = torch.autograd.grad(ALL(prob := disc(30, 25, 12).requires_grad_()).boxes[0, 2], prob)[0]
    assert gradient.sum() > 0
    assert gradient[..., 36:48].sum() == pytest.approx(gradient.sum().item(), rel=1e-2)


def test_bfloat16_autocast_does_not_change_the_prompts():
    prob = disc(400, 500, 150, size=1024)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ALL(prob)
    outside = ALL(prob)
    for part in ("points", "boxes", "masks"):
        assert getattr(inside, part).dtype == torch.float32
        torch.testing.assert_close(getattr(inside, part), getattr(outside, part))


@pytest.mark.parametrize("off", ["positive_points", "negative_points", "box", "mask"])
def test_each_prompt_can_be_switched_off(off):
    prompts = PromptGenerator(**{off: 0 if "points" in off else False})(MAPS["disc"])
    assert (prompts.boxes is None) == (off == "box")
    assert (prompts.masks is None) == (off == "mask")
    assert prompts.labels.tolist() == [{"positive_points": [0], "negative_points": [1]}.get(off, [1, 0])]


def test_no_points_give_no_labels():
    prompts = PromptGenerator(positive_points=0, negative_points=0)(MAPS["disc"])
    assert prompts.points is None
    assert prompts.labels is None


def test_nothing_switched_on_is_an_error():
    with pytest.raises(ValueError, match="switch on at least one"):
        PromptGenerator(positive_points=0, negative_points=0, box=False, mask=False)


@pytest.mark.parametrize("setting", [{"positive_points": -1}, {"box_margin": -0.1}, {"min_contrast": -1.0}])
def test_negative_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        PromptGenerator(**setting)


@pytest.mark.parametrize("shape", [(4, 4), (1, 2, 8, 8), (1, 1, 1, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="probability map"):
        ALL(torch.zeros(shape))


def test_settings_rebuild_the_generator():
    generator = PromptGenerator(positive_points=3, box_margin=0.1, mask=False)
    assert PromptGenerator(**generator.settings).settings == generator.settings


def test_scale_gradient_keeps_the_value():
    value = torch.rand(5, requires_grad=True)
    scaled = scale_gradient(value, 0.25)
    assert torch.equal(scaled, value)
    scaled.sum().backward()
    assert (value.grad == 0.25).all()


def letterboxed(mask: np.ndarray, size: int) -> np.ndarray:
    scale = size / max(mask.shape)
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    canvas = np.zeros((size, size), bool)
    canvas[:height, :width] = np.asarray(small) > 127
    return canvas


def real_masks(root: Path, count: int, size: int) -> list[np.ndarray]:
    """Evenly spaced lesion masks of the three real data sets."""
    patterns = ("BUS-BRA/**/Masks/*.png", "BUS-UCLM/**/masks/*.png", "BUSI/**/*_mask*.png")
    files = sorted(file for pattern in patterns for file in root.glob(pattern))
    masks = (np.asarray(Image.open(file).convert("L")) > 0 for file in files[:: len(files) // count])
    return [canvas for mask in masks if (canvas := letterboxed(mask, size)).any()]


def box_iou(box: np.ndarray, mask: np.ndarray) -> float:
    rows, columns = np.nonzero(mask)
    hard = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
    overlap = np.prod((np.minimum(box[2:], hard[2:]) - np.maximum(box[:2], hard[:2]) + 1).clip(0))
    areas = np.prod(box[2:] - box[:2] + 1) + np.prod(hard[2:] - hard[:2] + 1)
    return float(overlap / (areas - overlap))


@pytest.fixture(scope="module")
def lesion_masks(shared_data):
    return real_masks(shared_data, 60, 256)


@pytest.mark.parametrize(("sigma", "background"), [(0, 0.0), (2, 0.05), (6, 0.05)])
def test_real_lesions(lesion_masks, sigma, background):
    masks = lesion_masks
    assert len(masks) > 40
    soft = [background + (1 - background) * gaussian_filter(mask.astype(np.float32), sigma) for mask in masks]
    lesions = [prob >= 0.5 for prob in soft]
    prob = torch.tensor(np.stack(soft)[:, None])
    prompts = PromptGenerator()(prob)
    points = prompts.points.round().long().numpy()
    values = np.array([lesion[xy[:, 1], xy[:, 0]] for lesion, xy in zip(lesions, points, strict=True)])
    visible = np.array([lesion.any() for lesion in lesions])
    assert visible.mean() > 0.95
    assert values[visible, 0].mean() >= 0.99  # positive point on the lesion
    assert values[:, 1].mean() == 0  # negative point never on it
    large = [
        min(np.ptp(axis) for axis in np.nonzero(lesion)) + 1 >= 20 if lesion.any() else False for lesion in lesions
    ]
    ious = [box_iou(prompts.boxes[i].numpy(), lesions[i]) for i in np.flatnonzero(large)]
    assert min(ious) >= 0.85
    assert np.mean(ious) >= 0.97
    for part, gradient in gradients(PromptGenerator(), prob[::10]).items():
        norms = gradient.flatten(1).norm(dim=1)
        assert ((norms > 0) & (norms <= 1e3)).all(), part
