"""Patients: lesions stay inside the picture and below the skin, views show the same patient."""

import numpy as np
import pytest
from numpy.random import default_rng

from ultrarefiner_monai.data.phantom.anatomy import draw_breast, draw_view

SIZE = (150, 260)


@pytest.mark.parametrize("kind", ["benign", "malignant"])
def test_lesions_lie_inside_and_below_the_skin(kind):
    rng = default_rng(0)
    numbers = set()
    for breast in (draw_breast(rng, kind, SIZE, lesions=3) for _ in range(200)):
        height, width = breast.shape
        assert 150 <= min(height, width) < max(height, width) <= 260
        numbers.add(len(breast.lesions))
        for lesion in breast.lesions:
            assert lesion.centre[0] - lesion.radii[0] / height > breast.borders[0]
            assert lesion.centre[0] + lesion.radii[0] / height < 1.05
            assert 0 < lesion.centre[1] < 1
            assert lesion.level < 0
    assert numbers == {1, 2, 3}


def test_kinds_differ_as_radiologists_say():
    rng = default_rng(1)
    benign, malignant = (
        [lesion for _ in range(200) for lesion in draw_breast(rng, kind, SIZE).lesions]
        for kind in ("benign", "malignant")
    )

    def mean(lesions, value):
        return np.mean([value(lesion) for lesion in lesions])

    assert mean(malignant, lambda a: a.radii[0] / a.radii[1]) > mean(benign, lambda a: a.radii[0] / a.radii[1]) + 0.1
    assert mean(malignant, lambda a: a.edge) > 1.5 * mean(benign, lambda a: a.edge)
    assert mean(malignant, lambda a: a.attenuation) > 0 > mean(benign, lambda a: a.attenuation)
    assert not any(lesion.spikes for lesion in benign) and any(lesion.spikes for lesion in malignant)


def test_a_normal_breast_has_no_lesion():
    assert draw_breast(default_rng(2), "normal", SIZE, lesions=3).lesions == ()


def test_a_view_shows_the_same_patient_from_elsewhere():
    rng = default_rng(3)
    breast = draw_breast(rng, "malignant", SIZE)
    view = draw_view(rng, breast)
    assert (view.shape, view.levels, len(view.lesions)) == (breast.shape, breast.levels, len(breast.lesions))
    moved = np.subtract(view.lesions[0].centre, breast.lesions[0].centre)
    assert 0 < abs(moved).max() <= 0.06
    assert view.lesions[0].radii != breast.lesions[0].radii
