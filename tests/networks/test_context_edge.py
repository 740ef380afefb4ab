"""Context and edge adapters: derivatives by hand, which way they point, what starts at zero."""

import math

import pytest
import torch
from small_encoder import randomised

from ultrarefiner_monai.networks.adapters.context_edge import SOBEL, ContextEdgeAdapter, EdgeStem


def derivatives(plane):
    """The four derivatives (4, H, W) of a plane (H, W)."""
    return EdgeStem(1).maps(plane.expand(1, 4, -1, -1), plane.shape)[0]


def magnitudes(features):
    """The magnitude (4, H, W) of each of four channels (4, H, W)."""
    return EdgeStem(1, "magnitude").maps(features[None], features.shape[1:])[0]


def test_kernels_sum_to_nothing_and_weigh_the_same():
    kernels = torch.tensor(SOBEL)
    assert kernels.sum((1, 2)).tolist() == [0] * 4 and kernels.abs().sum((1, 2)).tolist() == [8] * 4


def test_a_step_by_hand():
    step = torch.zeros(6, 8)
    step[:, 4:] = 1
    found = derivatives(step)
    expected = torch.zeros(4, 6, 8)
    expected[:, :, 3:5] = torch.tensor([4.0, 0, 3, -3]).view(4, 1, 1)  # two columns wide, up to the border
    assert torch.equal(found, expected)
    size = magnitudes(step.expand(4, -1, -1))
    assert size[:, :, 3:5].allclose(torch.tensor(math.sqrt(34))) and size[:, :, :3].max() <= 1.1e-6


def test_a_ramp_by_hand():
    ramp = torch.arange(8.0).expand(6, -1)
    found = derivatives(ramp)[:, :, 1:-1]
    assert torch.equal(found, torch.tensor([8.0, 0, 6, -6]).view(4, 1, 1).expand_as(found))
    size = magnitudes(ramp.expand(4, -1, -1))[:, :, 1:-1]
    assert size.allclose(torch.tensor(math.sqrt(136)))


def test_no_frame_is_drawn():
    assert derivatives(torch.full((5, 7), 3.0)).abs().max() == 0
    patches = torch.full((1, 6, 8, 10), 0.7)
    features = randomised(EdgeStem(6))(patches)
    assert (features - features[..., :1, :1]).abs().max() < 1e-6


def test_a_quarter_turn_permutes_the_directions_up_to_sign():
    plane = torch.rand(9, 9, generator=torch.Generator().manual_seed(0))
    upright, turned = derivatives(plane), derivatives(plane.rot90())
    for number, (other, sign) in enumerate([(1, -1), (0, 1), (3, -1), (2, 1)]):
        torch.testing.assert_close(turned[number], sign * upright[other].rot90())


def test_the_four_maps_differ():
    """Unlike the published code, whose four maps are one."""
    plane = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(derivatives(plane).flatten(1)) == 4
    maps = EdgeStem(1).maps(torch.rand(1, 4, 16, 16), (16, 16))[0]
    assert all((maps[i] - maps[j]).abs().max() > 0.1 for i in range(4) for j in range(i))


def test_magnitudes_keep_the_channels_apart():
    features = torch.zeros(4, 7, 9)
    features[2, 3, 4] = 1
    size = magnitudes(features)
    assert size[2].max() > 1 and size[[0, 1, 3]].max() <= 1.1e-6


@pytest.mark.parametrize("edge", ["directions", "magnitude"])
def test_derivatives_have_full_precision_and_finite_gradients_in_autocast(edge):
    stem = EdgeStem(3, edge)
    patches = torch.zeros(1, 3, 8, 8)  # no edge at all: where the root's derivative is largest
    with torch.autocast("cpu", torch.bfloat16):
        features = stem(patches)
        maps = stem.maps(features, (4, 4))
    assert maps.dtype == torch.float32 and features.dtype == torch.bfloat16
    maps.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in stem.parameters())


def test_maxima_are_taken_on_the_way_to_a_coarser_grid():
    features = torch.zeros(1, 4, 8, 8)
    features[..., 5, 2] = 4.0
    pooled = torch.zeros(4, 4)
    pooled[2, 1] = 4.0
    assert torch.equal(EdgeStem(1).maps(features, (4, 4))[0], derivatives(pooled))


def test_an_adapter_is_half_of_context_plus_edge():
    adapter = randomised(ContextEdgeAdapter(8)).double()
    tokens, edges = torch.rand(2, 3, 5, 8, dtype=torch.float64), torch.rand(2, 4, 3, 5, dtype=torch.float64)
    context = torch.nn.functional.gelu(tokens @ adapter.down.weight.T + adapter.down.bias)
    context = context @ adapter.up.weight.T + adapter.up.bias
    edge = torch.einsum("dc,bchw->bhwd", adapter.edge.weight, edges) + adapter.edge.bias
    torch.testing.assert_close(adapter(tokens, edges), 0.5 * (context + edge))
    assert ContextEdgeAdapter(8)(tokens.float(), edges.float()).abs().max() == 0


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"edge of a stem must be one of directions, magnitude, found 'sobel'"):
        EdgeStem(4, "sobel")
    with pytest.raises(ValueError, match=r"adapter ratio: expected at least 1/8 for 8 channels, found 0.1"):
        ContextEdgeAdapter(8, 0.1)
