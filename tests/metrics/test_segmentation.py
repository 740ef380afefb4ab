import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from skimage.measure import label
from skimage.morphology import erosion
from squares import square, value

from ultrarefiner_monai.metrics import segmentation_metrics, summarise
from ultrarefiner_monai.metrics.segmentation import FALSE_POSITIVES

NAN = float("nan")


def test_hand_computed_squares():
    # 10 x 10 squares, 4 px apart sideways: 60 px in common, 40 px in each alone
    found = value(square(5, 8, 10), square(5, 12, 10))
    assert found["dice"] == pytest.approx(0.6)
    assert found["iou"] == pytest.approx(60 / 140)
    assert found["precision"] == found["recall"] == pytest.approx(0.6)
    assert found["specificity"] == pytest.approx((32 * 40 - 140) / (32 * 40 - 100))
    # edge pixels: the 10 of the far column are 4 px away, and so is the other directed distance
    assert found["hd95"] == pytest.approx(4.0)
    # each outline's 36 px: 10 of the far column, 3 of two rows before the other begins, 12 in common, 8 inside the other
    near = 10 * [4] + 2 * [3, 2, 1] + 12 * [0] + [1, 2, 3, 4, 4, 3, 2, 1]
    assert found["assd"] == pytest.approx(sum(near) / 36)
    assert found["nsd"] == pytest.approx(sum(distance <= 2 for distance in near) / 36)
    # 2 % of the diagonal of 51 px is 1 px: the bands are the outlines, which share 6 px of each of two rows
    assert found["boundary_iou"] == pytest.approx(12 / (72 - 12))
    assert (found["lesions"], found["lesions_found"], found["false_lesions"]) == (1, 1, 0)
    assert all(math.isnan(found[name]) for name in FALSE_POSITIVES)


def test_precision_and_recall_are_not_swapped():
    found = value(square(5, 8, 5), square(5, 8, 10))
    assert (found["precision"], found["recall"]) == (1.0, 0.25)


def test_a_false_alarm_by_hand():
    found = value(square(4, 4, 8), square(0, 0, 0))
    assert (found["false_positive"], found["false_positive_pixels"]) == (1, 64)
    assert found["false_positive_area"] == pytest.approx(64 / (32 * 40))
    assert found["specificity"] == pytest.approx(1 - 64 / (32 * 40))


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
    """Pixels with a neighbour along an axis that is background or outside the image, by looking at each."""
    framed = np.pad(mask, 1)
    inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def band(mask: np.ndarray) -> np.ndarray:
    """The published algorithm of boundary IoU, step by step."""
    framed = np.pad(mask, 1)
    for _ in range(max(1, round(0.02 * math.hypot(*mask.shape)))):
        framed = erosion(framed, np.ones((3, 3)))
    return mask & ~framed[1:-1, 1:-1]


def objects(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    labels = label(mask, connectivity=2)
    return [set(map(tuple, np.argwhere(labels == i))) for i in range(1, labels.max() + 1)]


def independent(pred: np.ndarray, target: np.ndarray, spacing: tuple[float, float]) -> dict[str, float]:
    """The same metrics from sets of pixels, a full matrix of distances and the whole image."""
    p, t = set(map(tuple, np.argwhere(pred))), set(map(tuple, np.argwhere(target)))
    both, size = len(p & t), pred.size
    bands, findings, lesions = (band(pred), band(target)), objects(pred), objects(target)
    iou = np.array([[len(a & b) / len(a | b) for b in lesions] for a in findings]).reshape(len(findings), len(lesions))
    found = {
        "dice": 2 * both / (len(p) + len(t)) if p or t else NAN,
        "iou": both / len(p | t) if p or t else NAN,
        "precision": both / len(p) if p else NAN,
        "recall": both / len(t) if t else NAN,
        "specificity": (size - len(p | t)) / (size - len(t)) if len(t) < size else NAN,
        "hd95": NAN,
        "assd": NAN,
        "nsd": 0.0 if p or t else NAN,
        "boundary_iou": (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum() if p or t else NAN,
        "lesions": len(lesions),
        "lesions_found": (iou >= 0.1).any(0).sum(),
        "false_lesions": len(findings) - (iou >= 0.1).any(1).sum(),
        "false_positive": NAN if t else float(bool(p)),
        "false_positive_area": NAN if t else len(p) / size,
        "false_positive_pixels": NAN if t else len(p),
    }
    if p and t:
        distances = cdist(edge_pixels(pred) * spacing, edge_pixels(target) * spacing)
        every = np.concatenate([distances.min(0), distances.min(1)])
        found["hd95"] = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
        found["assd"] = every.mean()
        found["nsd"] = (every <= 2 * math.sqrt(spacing[0] * spacing[1])).mean()
    return found


def random_pair(rng: np.random.Generator) -> list[np.ndarray]:
    """Noise or blobs, from nearly blank to nearly full; now and then blank or full."""
    shape = tuple(rng.integers(7, 33, 2)) if rng.random() < 0.9 else (20, 76)  # the last: a band of 2 px
    smooth = rng.choice([0.7, 2, 4])
    fields = [gaussian_filter(rng.standard_normal(shape), smooth) for _ in range(2)]
    fields[1] += rng.choice([0, 3]) * fields[0]  # unrelated or similar
    return [field / field.std() > rng.choice([-0.3, 0.8, 0.8, 1.5, 2.6, -9, 9]) for field in fields]


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_an_independent_implementation(seed):
    """A thousand cases, half of them with a spacing."""
    rng = np.random.default_rng(seed)
    for case in range(100):
        pred, target = random_pair(rng)
        spacing = tuple(rng.uniform(0.05, 0.3, 2)) if case % 2 else None
        found = value(*(torch.from_numpy(mask)[None, None] for mask in (pred, target)), spacing)
        expected = independent(pred, target, spacing or (1, 1))
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True), (seed, case)


def test_numbers_bools_and_monai_tensors_give_the_same():
    pred, target = square(5, 8, 10), square(5, 12, 10)
    expected = pytest.approx(value(pred, target), nan_ok=True)
    for dtype in (torch.float32, torch.uint8, torch.int64):
        assert value(pred.to(dtype), target.to(dtype)) == expected
    assert value(MetaTensor(pred), MetaTensor(target)) == expected


@pytest.mark.parametrize("bad", [0.5, 255.0, NAN])
def test_probabilities_and_grey_values_are_refused(bad):
    pred = square(5, 8, 10).float() * bad
    with pytest.raises(ValueError, match="pred must hold only 0 and 1"):
        segmentation_metrics(pred, square(5, 8, 10))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 8, 8), (2, 1, 8, 8), (1, 1, 8, 9)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"must both be \(B, 1, H, W\)"):
        segmentation_metrics(torch.zeros(shape), torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("spacing", [(0.1,), (0.1, 0), (0.1, -1), (0.1, NAN), (math.inf, 0.1)])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing must be two positive numbers"):
        segmentation_metrics(square(5, 8, 10), square(5, 8, 10), spacing)


def test_the_inputs_stay_as_they_are():
    pred, target = square(5, 8, 10).float(), square(5, 12, 10).float()
    copies = pred.clone(), target.clone()
    segmentation_metrics(pred, target)
    assert torch.equal(pred, copies[0]) and torch.equal(target, copies[1])
