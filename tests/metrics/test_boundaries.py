import math
import warnings

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import gaussian_filter
from skimage.morphology import erosion

from ultrarefiner_monai.metrics.boundaries import band_width, boundary_iou, outline_metrics


def rectangle(top: int, left: int, height: int, width: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_single_pixels_in_opposite_corners():
    found = outline_metrics(rectangle(0, 0, 1, 1), rectangle(39, 59, 1, 1))
    assert found == pytest.approx({"hd95": math.hypot(39, 59), "assd": math.hypot(39, 59), "nsd": 0})


def test_the_tolerance_is_two_pixels_and_includes_them():
    lines = [rectangle(10, 0, 1, 60), *(rectangle(10 + shift, 0, 1, 60) for shift in (1, 2, 3))]
    assert [outline_metrics(lines[0], line)["nsd"] for line in lines] == [1, 1, 1, 0]


@pytest.mark.parametrize("side", [0.1, 0.3, 0.07])
def test_square_millimetres_scale_distances_and_leave_the_tolerance(side):
    pred, target = rectangle(10, 10, 12, 20), rectangle(12, 12, 10, 25)
    pixels, millimetres = outline_metrics(pred, target), outline_metrics(pred, target, (side, side))
    assert millimetres["hd95"] == pytest.approx(side * pixels["hd95"])
    assert millimetres["assd"] == pytest.approx(side * pixels["assd"])
    assert millimetres["nsd"] == pixels["nsd"] < 1


def test_spacing_is_row_then_column():
    points = rectangle(10, 10, 1, 1), rectangle(13, 10, 1, 1), rectangle(10, 13, 1, 1)
    assert outline_metrics(points[0], points[1], (0.2, 0.1))["hd95"] == pytest.approx(0.6)
    assert outline_metrics(points[0], points[2], (0.2, 0.1))["hd95"] == pytest.approx(0.3)
    # a tolerance of 2 sqrt(0.2 * 0.1) = 0.283 mm
    assert outline_metrics(points[0], points[2], (0.2, 0.1))["nsd"] == 0
    assert outline_metrics(points[0], rectangle(10, 12, 1, 1), (0.2, 0.1))["nsd"] == 1


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_monai(seed):
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal((60, 80)), 5) for _ in range(2)]
    masks = [field > field.std() for field in (fields[0], fields[0] + 0.5 * fields[1])]
    pair = [torch.from_numpy(mask)[None, None] for mask in masks]
    spacing = rng.uniform(0.05, 0.3, 2).tolist()
    tolerance = 2 * math.sqrt(spacing[0] * spacing[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of an argument that it passes to itself
        expected = {
            "hd95": compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing),
            "assd": compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=spacing),
            "nsd": compute_surface_dice(*pair, [tolerance], include_background=True, spacing=spacing),
        }
    found = outline_metrics(*masks, tuple(spacing))
    for name, tolerance in (("hd95", 1e-5), ("assd", 1e-6), ("nsd", 1e-6)):  # its percentiles are in single precision
        assert found[name] == pytest.approx(float(expected[name]), rel=tolerance, abs=tolerance), name


def test_the_band_is_two_percent_of_the_diagonal():
    assert [band_width(shape) for shape in ((10, 10), (300, 400), (500, 500))] == [1, 10, 14]


@pytest.mark.parametrize("seed", range(5))
def test_bands_as_the_published_algorithm_makes_them(seed):
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal((220, 280)), 20) for _ in range(2)]
    masks = [field > 0 for field in (fields[0], fields[0] + 0.5 * fields[1])]  # many touch the border
    bands = []
    for mask in masks:
        framed = np.pad(mask, 1)
        for _ in range(7):
            framed = erosion(framed, np.ones((3, 3)))
        bands.append(mask & ~framed[1:-1, 1:-1])
    expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
    assert boundary_iou(*masks, band_width((220, 280))) == pytest.approx(expected)


def test_boundary_iou_sees_what_iou_does_not():
    """A large mask that is 2 px too small: IoU 0.92, but a third of the bands is gone."""
    outer, inner = rectangle(20, 20, 100, 100, (140, 140)), rectangle(22, 22, 96, 96, (140, 140))
    assert (outer & inner).sum() / (outer | inner).sum() == pytest.approx(0.9216)
    # bands of 4 px: from 100 down to 92, and from 96 down to 88; they share the ring from 96 to 92
    assert boundary_iou(outer, inner, 4) == pytest.approx((96**2 - 92**2) / (100**2 - 88**2))
