"""How a network is called."""

import torch
from torch import nn

from ultrarefiner_monai.models.inferers import AutocastInferer, OutputsInferer
from ultrarefiner_monai.networks import SamRefiner, build_sam


def test_autocast_inferer_hands_back_full_precision():
    network = nn.Conv2d(1, 1, 3)
    seen = []
    network.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    output = AutocastInferer(amp=True)(torch.rand(1, 1, 8, 8), network)
    assert (seen, output.dtype) == ([torch.bfloat16], torch.float32)


def test_the_outputs_stand_in_their_order():
    refiner = SamRefiner(build_sam("tiny", 64)).eval()
    coarse = torch.zeros(1, 1, 64, 64)
    coarse[..., 20:40, 20:40] = 1
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        output = OutputsInferer()(torch.cat((image, coarse), 1), refiner)
        expected = refiner.refine(image, coarse)
    assert output.shape == (1, 2, 64, 64)
    assert torch.equal(output[:, :1], expected.coarse_logits)
    assert torch.equal(output[:, 1:], expected.logits)
