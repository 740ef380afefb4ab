"""Prompts of probability maps of every shape: inside the image, with bounded gradients, or declared unusable."""

import pytest
import torch
from made_maps import ALL, MAPS, SIZE, UNUSABLE, gradients

pytestmark = pytest.mark.fault(17)


@pytest.mark.parametrize("name", MAPS)
def test_prompts_are_inside_the_image_and_gradients_bounded(name):
    prob = MAPS[name]
    size = prob.shape[-1]
    prompts = ALL(prob)
    x1, y1, x2, y2 = prompts.boxes[0].tolist()
    assert 0 <= x1 < x2 <= size - 1
    assert 0 <= y1 < y2 <= size - 1
    assert (prompts.points >= 0).all()
    assert (prompts.points <= size - 1).all()
    assert not prompts.empty.any()
    for part, gradient in gradients(ALL, prob).items():
        assert gradient.isfinite().all(), part
        assert 0 < gradient.norm() <= 1e3, part


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_maps_fall_back_without_gradient(name):
    prob = UNUSABLE[name]
    prompts = ALL(prob)
    assert prompts.empty.tolist() == [True]
    assert prompts.boxes.tolist() == [[0, 0, SIZE - 1, SIZE - 1]]
    assert (prompts.masks == 0).all()
    assert (prompts.labels == -1).all()
    assert (prompts.points == (SIZE - 1) / 2).all()
    assert all((gradient == 0).all() for gradient in gradients(ALL, prob).values())


def test_unusable_image_leaves_its_neighbour_alone():
    pair = torch.cat([UNUSABLE["nan"], MAPS["disc"]])
    together, alone = ALL(pair), ALL(MAPS["disc"])
    assert together.empty.tolist() == [True, False]
    for part in ("points", "labels", "boxes", "masks"):
        torch.testing.assert_close(getattr(together, part)[1:], getattr(alone, part), atol=1e-4, rtol=1e-5)
    for part, gradient in gradients(ALL, pair).items():
        assert (gradient[0] == 0).all()
        torch.testing.assert_close(gradient[1:], gradients(ALL, MAPS["disc"])[part], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("part", ["points", "boxes", "masks"])
@pytest.mark.parametrize("shape", ["disc", "edge"])
def test_gradcheck(part, shape):
    rows, columns = torch.meshgrid(torch.arange(7), torch.arange(8), indexing="ij")
    x, y = (3.6, 3.3) if shape == "disc" else (0.2, 3.3)
    distance = ((columns - x) ** 2 + (rows - y) ** 2).double().sqrt()
    noise = torch.rand(7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    prob = (0.02 + 0.9 * (2.1 - distance).sigmoid() + 0.01 * noise)[None, None].requires_grad_()
    assert torch.autograd.gradcheck(lambda p: getattr(ALL(p, (5, 6)), part), prob, eps=1e-7, atol=1e-5)
