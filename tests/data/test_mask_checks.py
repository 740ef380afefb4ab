"""Masks that mean something else than a reader makes of them."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.images import to_alpha, to_planes
from ultrarefiner_monai.data.mask_checks import ALPHA, FULL, INVERTED, mask_problem, remedy


def _lesion(share: float = 0.1) -> np.ndarray:
    """A lesion (60, 80) of a share of the frame, whose lower edge is the frame's."""
    mask = np.zeros((60, 80), dtype=np.uint8)
    side = int((share * 60 * 80) ** 0.5)
    mask[60 - side :, 10 : 10 + side] = 255
    return mask


def _with_alpha(grey: np.ndarray, alpha: np.ndarray, mode: str) -> Image.Image:
    return Image.merge(mode, [Image.fromarray(grey)] * (len(mode) - 1) + [Image.fromarray(alpha)])


WHITE, BLACK = np.full((60, 80), 255, np.uint8), np.zeros((60, 80), np.uint8)


@pytest.mark.parametrize(
    ("picture", "meaning"),
    [
        (Image.fromarray(_lesion()), None),
        (Image.fromarray(_lesion(0.5)), None),
        (Image.fromarray(BLACK), None),
        (Image.fromarray(_lesion() // 255), None),
        (_with_alpha(_lesion(), WHITE, "RGBA"), None),
        (_with_alpha(_lesion(), _lesion(), "RGBA"), None),
        (_with_alpha(BLACK, WHITE, "RGBA"), None),
        (_with_alpha(WHITE, _lesion(), "RGBA"), ALPHA),
        (_with_alpha(BLACK, _lesion(), "RGBA"), ALPHA),
        (_with_alpha(WHITE, _lesion(), "LA"), ALPHA),
        (Image.fromarray(255 - _lesion()), INVERTED),
        (Image.fromarray(1 - _lesion() // 255), INVERTED),
        (Image.fromarray(255 - _lesion(0.5)), INVERTED),
        (Image.fromarray(WHITE), FULL),
        (Image.fromarray(WHITE // 255), FULL),
        (Image.fromarray(WHITE).convert("1"), FULL),
    ],
)
def test_meanings(picture: Image.Image, meaning: str | None) -> None:
    problem = mask_problem(to_planes(picture), to_alpha(picture))
    assert (problem and (problem.kind, problem.message)) == (meaning and ("mask_meaning", meaning))
    if problem:
        assert "--mask" in remedy(problem)


@pytest.mark.parametrize("change", [lambda m: np.where(m, m - np.indices(m.shape)[1] % 2, 0), lambda m: m // 2 + 1])
def test_other_values_go_first(change: Callable[[np.ndarray], np.ndarray]) -> None:
    problem = mask_problem(change(255 - _lesion()).astype(np.uint8)[..., None], None)
    assert problem and problem.kind == "mask_values" and "--mask half" in remedy(problem)


def test_transparent_colours_of_a_palette_are_alpha() -> None:
    picture = Image.fromarray(_lesion() // 255).convert("P")
    picture.putpalette([255] * 768)
    picture.info["transparency"] = 0
    assert mask_problem(to_planes(picture), to_alpha(picture)).message == ALPHA
