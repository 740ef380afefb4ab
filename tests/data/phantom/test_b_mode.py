"""The renderer: speckle of the stated size, lesions where the mask is, shadows and enhancement behind them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng
from scipy.ndimage import gaussian_filter

from ultrarefiner_monai.data.phantom.b_mode import Breast, Lesion, render

LESION = Lesion(
    centre=(0.4, 0.5), radii=(20.0, 30.0), angle=0.0, swings=(), spikes=(), level=-15.0, texture=1.0, edge=1.0,
    attenuation=0.0, halo=0.0, wall=0.0,
)  # fmt: skip
EVEN = Breast(  # one tissue, no strands, no loss: speckle only
    kind="benign", shape=(200, 180), borders=(0.0, 0.0, 0.0), levels=(0.0, 0.0, 0.0, 0.0), density=0.0, strands=0.0,
    tilt=0.0, loss=0.0, streaks=0.0, window=(0.5, 0.2, 0.0), gain=30.0, span=60.0, gamma=1.0, lesions=(),
)  # fmt: skip


def test_the_mask_is_the_ellipse_that_was_asked_for():
    picture, mask = render(default_rng(0), replace(EVEN, lesions=(LESION,)))
    assert picture.shape == mask.shape == (200, 180)
    assert picture.dtype == np.uint8 and mask.dtype == bool
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (61, 99, 61, 119)  # 80 +- 20, 90 +- 30, open
    assert mask.sum() == pytest.approx(np.pi * 20 * 30, rel=0.01)
    assert picture[75:85, 80:100].mean() < picture[75:85, 10:50].mean() - 40  # 15 dB of 60 are 64 grey values


def test_spikes_and_swings_move_the_outline_where_they_point():
    spiked = replace(LESION, spikes=((np.pi / 2, 0.5),))  # straight down
    _, mask = render(default_rng(0), replace(EVEN, lesions=(spiked,)))
    rows, _ = np.nonzero(mask)
    assert rows.min() == pytest.approx(61, abs=1) and rows.max() == pytest.approx(80 + 1.5 * 20, abs=1)


@pytest.mark.parametrize(("attenuation", "sign"), [(0.25, -1), (-0.25, 1)])
def test_a_lesion_darkens_or_brightens_what_lies_behind_it(attenuation, sign):
    plain, _ = render(default_rng(0), replace(EVEN, lesions=(LESION,)))
    other, _ = render(default_rng(0), replace(EVEN, lesions=(replace(LESION, attenuation=attenuation),)))
    change = other.astype(float) - plain
    assert sign * change[110:150, 80:100].mean() > 20  # 40 px at 0.25 dB are 10 dB: 42 grey values before smoothing
    assert abs(change[:, :20]).max() <= 1
    assert abs(change[:50]).max() <= 1


def test_speckle_is_wider_than_deep_and_of_the_stated_size():
    picture, _ = render(default_rng(1), EVEN)
    field = (picture - gaussian_filter(picture.astype(float), 6))[60:100]  # about the focus

    def correlation(down: int, across: int) -> float:
        return (field[down:, across:] * field[: 40 - down, : 180 - across]).mean() / field.var()

    assert correlation(0, 1) > correlation(1, 0) > 0.3
    assert correlation(0, 2) > 0.3
    assert abs(correlation(5, 0)) < 0.15 and abs(correlation(0, 9)) < 0.15


def test_gain_and_dynamic_range_set_the_grey_values():
    dark, _ = render(default_rng(2), EVEN)
    bright, _ = render(default_rng(2), replace(EVEN, gain=24.0))
    assert bright.mean() - dark.mean() == pytest.approx(6 / 60 * 255, abs=1)  # 6 dB of 60
    curved, _ = render(default_rng(2), replace(EVEN, gamma=2.0))
    assert np.allclose(curved, 255 * (dark / 255.0) ** 2, atol=1.5)
