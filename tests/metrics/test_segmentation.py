import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from ultrarefiner_monai.metrics import segmentation_metrics, summarise

NAN = float("nan")


def square(top: int, left: int, size: int, shape: tuple[int, int] = (32, 40)) -> torch.Tensor:
    mask = torch.zeros(1, 1, *shape, dtype=torch.bool)
    mask[..., top : top + size, left : left + size] = True
    return mask


def value(pred: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    return {name: column.item() for name, column in segmentation_metrics(pred, target).items()}


def test_hand_computed_squares():
    # 10 x 10 squares, 4 px apart sideways: 60 px in common, 40 px in each alone
    found = value(square(5, 8, 10), square(5, 12, 10))
    assert found["dice"] == pytest.approx(0.6)
    assert found["iou"] == pytest.approx(60 / 140)
    assert found["precision"] == found["recall"] == pytest.approx(0.6)
    # edge pixels: the 10 of the far column are 4 px away, and so is the other directed distance
    assert found["hd95"] == pytest.approx(4.0)


def test_precision_and_recall_are_not_swapped():
    found = value(square(5, 8, 5), square(5, 8, 10))
    assert (found["precision"], found["recall"]) == (1.0, 0.25)


def test_single_pixels_in_opposite_corners():
    pred, target = square(0, 0, 1), square(31, 39, 1)
    assert value(pred, target)["hd95"] == pytest.approx(math.hypot(31, 39))


@pytest.mark.parametrize(
    ("pred", "target", "expected"),
    [
        (0, 0, {"dice": NAN, "iou": NAN, "precision": NAN, "recall": NAN, "hd95": NAN}),
        (0, 6, {"dice": 0.0, "iou": 0.0, "precision": NAN, "recall": 0.0, "hd95": NAN}),
        (6, 0, {"dice": 0.0, "iou": 0.0, "precision": 0.0, "recall": NAN, "hd95": NAN}),
        (6, 6, {"dice": 1.0, "iou": 1.0, "precision": 1.0, "recall": 1.0, "hd95": 0.0}),
    ],
)
def test_the_table_of_empty_cases(pred, target, expected):
    assert value(square(4, 4, pred), square(4, 4, target)) == pytest.approx(expected, nan_ok=True)


def test_a_blank_image_in_a_batch_leaves_the_others_alone():
    blank = square(0, 0, 0)
    pred = torch.cat([square(5, 8, 10), blank, square(3, 3, 4), blank])
    target = torch.cat([square(5, 12, 10), square(5, 12, 10), blank, blank])
    found = segmentation_metrics(pred, target)
    assert found["dice"][:3].tolist() == pytest.approx([0.6, 0.0, 0.0])
    assert found["hd95"].isnan().tolist() == [False, True, True, True]
    assert summarise(found)["dice"] == pytest.approx(0.2)  # mean of the three defined, not of four
    assert summarise(found)["dice_undefined"] == 1
    assert summarise(found)["hd95_undefined"] == 3


def test_images_are_scored_one_by_one_and_never_pooled():
    # a large perfect lesion must not hide a small missed one: pooled Dice would be 0.9975
    pred = torch.cat([square(0, 0, 20), square(0, 0, 0)])
    target = torch.cat([square(0, 0, 20), square(9, 9, 1)])
    assert summarise(segmentation_metrics(pred, target))["dice"] == pytest.approx(0.5)


def test_summary_of_nothing_defined_is_nan_and_counted():
    assert summarise({"dice": torch.tensor([NAN, NAN])}) == pytest.approx(
        {"dice": NAN, "dice_undefined": 2}, nan_ok=True
    )


def edge_pixels(mask: np.ndarray) -> np.ndarray:
    """Pixels with a neighbour along an axis that is background or outside the picture, by looking at each."""
    framed = np.pad(mask, 1)
    inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def independent(pred: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """The same metrics from sets of pixels and a full matrix of distances."""
    p, t = set(map(tuple, np.argwhere(pred))), set(map(tuple, np.argwhere(target)))
    both = len(p & t)
    found = {
        "dice": 2 * both / (len(p) + len(t)) if p or t else NAN,
        "iou": both / len(p | t) if p or t else NAN,
        "precision": both / len(p) if p else NAN,
        "recall": both / len(t) if t else NAN,
        "hd95": NAN,
    }
    if p and t:
        distances = cdist(edge_pixels(pred), edge_pixels(target))
        found["hd95"] = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_an_independent_implementation(seed):
    rng = np.random.default_rng(seed)
    for smooth, level in product((0.7, 4), (-0.3, 0.8, 2.6)):  # noise and blobs; full, usual and nearly blank
        shape = tuple(rng.integers(9, 60, 2))
        fields = [gaussian_filter(rng.standard_normal(shape), smooth) for _ in range(2)]
        pred, target = ((field / field.std() > level) for field in fields)
        found = value(torch.from_numpy(pred)[None, None], torch.from_numpy(target)[None, None])
        assert found == pytest.approx(independent(pred, target), rel=1e-5, nan_ok=True)


def test_numbers_and_bools_give_the_same():
    pred, target = square(5, 8, 10), square(5, 12, 10)
    for dtype in (torch.float32, torch.uint8, torch.int64):
        assert value(pred.to(dtype), target.to(dtype)) == value(pred, target)


@pytest.mark.parametrize("bad", [0.5, 255.0, NAN])
def test_probabilities_and_grey_values_are_refused(bad):
    pred = square(5, 8, 10).float() * bad
    with pytest.raises(ValueError, match="pred must hold only 0 and 1"):
        segmentation_metrics(pred, square(5, 8, 10))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 8, 8), (2, 1, 8, 8), (1, 1, 8, 9)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"must both be \(B, 1, H, W\)"):
        segmentation_metrics(torch.zeros(shape), torch.zeros(1, 1, 8, 8))


def test_the_inputs_stay_as_they_are():
    pred, target = square(5, 8, 10).float(), square(5, 12, 10).float()
    copies = pred.clone(), target.clone()
    segmentation_metrics(pred, target)
    assert torch.equal(pred, copies[0]) and torch.equal(target, copies[1])
