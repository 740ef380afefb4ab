"""UltraRefiner: outputs, gradients into the coarse network, on a fake and on the real small networks."""

import pytest
import torch
from fake_sam import FakeSam
from torch import Tensor, nn

from ultrarefiner_monai.losses import JointLoss
from ultrarefiner_monai.networks import PromptGenerator, SamRefiner, UltraRefiner, build_sam, build_transunet

OFF = {"positive_points": 0, "negative_points": 0, "box": False, "mask": False}
ALONE = [{"positive_points": 1}, {"negative_points": 1}, {"box": True}, {"mask": True}]


class CoarseNet(nn.Module):
    """Dark is lesion: 6 - 12 * blurred image at the start."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, channels, 3, padding=1)
        nn.init.constant_(self.layer.weight, -12 / 9)
        nn.init.constant_(self.layer.bias, 6.0)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)


def image(size: int = 32, count: int = 2) -> Tensor:
    value = torch.ones(count, 1, size, size) * 0.9
    value[..., size // 4 : size // 2, size // 3 : 2 * size // 3] = 0.1
    return value


def system(**settings) -> UltraRefiner:
    torch.manual_seed(0)
    return UltraRefiner(CoarseNet(), SamRefiner(FakeSam()), **settings)


def test_outputs_are_refined_both_or_all_parts():
    both = system(outputs="both")
    parts = both(image(), return_parts=True)
    assert torch.equal(both(image()), torch.cat([parts.coarse_logits, parts.logits], 1))
    assert torch.equal(system()(image()), parts.logits)
    assert torch.equal(parts.coarse_logits, both.coarse(image()))
    assert parts.coarse_logits.requires_grad


def test_it_is_the_refiner_on_the_coarse_probability():
    network = system()
    expected = network.refiner.refine(image(), network.coarse(image()).sigmoid()).logits
    assert torch.equal(network(image()), expected)


@pytest.mark.parametrize("prompt", ALONE, ids=lambda prompt: next(iter(prompt)))
def test_refined_mask_trains_the_coarse_network_through_each_prompt_alone(prompt):
    torch.manual_seed(0)
    refiner = SamRefiner(FakeSam(), PromptGenerator(**{**OFF, **prompt}), fusion="none")
    network = UltraRefiner(CoarseNet(), refiner)
    network(image()).mean().backward()
    gradient = network.coarse.layer.weight.grad
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


def test_gradient_scale_zero_leaves_the_prompts_path_out():
    refiner = SamRefiner(FakeSam(), fusion="none")
    network = UltraRefiner(CoarseNet(), refiner, prompt_gradient_scale=0.0)
    network(image()).mean().backward()
    assert network.coarse.layer.weight.grad.norm() == 0


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_gradient_scale_is_a_factor(scale):
    def gradient(value: float) -> Tensor:
        torch.manual_seed(0)
        network = UltraRefiner(CoarseNet(), SamRefiner(FakeSam(), fusion="none"), prompt_gradient_scale=value)
        network(image()).mean().backward()
        return network.coarse.layer.weight.grad

    torch.testing.assert_close(gradient(scale), scale * gradient(1.0))


def test_known_embedding_is_used():
    network = system()
    embedding = network.refiner.embed(image())
    assert torch.equal(network(image(), embedding), network(image()))


def test_real_networks_train_jointly():
    torch.manual_seed(0)
    sam = build_sam("tiny")
    network = UltraRefiner(build_transunet("tiny"), SamRefiner(sam), outputs="both").train()
    frozen = {name: value.clone() for name, value in sam.image_encoder.state_dict().items()}
    loss_function = JointLoss()
    optimizer = torch.optim.AdamW(
        [*(p for p in network.parameters() if p.requires_grad), *loss_function.parameters()], lr=1e-3
    )
    x = image(sam.image_size)
    target = (x < 0.5).float()
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = loss_function(network(x, return_parts=True), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert (loss_function.log_variances != 0).all()
    assert all(torch.equal(sam.image_encoder.state_dict()[name], value) for name, value in frozen.items())
    assert network(x).shape == (2, 2, sam.image_size, sam.image_size)


def test_bfloat16_autocast_trains():
    network = system()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image())
    logits.float().mean().backward()
    assert logits.isfinite().all()
    assert network.coarse.layer.weight.grad.isfinite().all()


def test_wrong_arguments_are_refused():
    refiner = SamRefiner(FakeSam())
    with pytest.raises(ValueError, match="'refined' or 'both'"):
        UltraRefiner(CoarseNet(), refiner, outputs="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prompt_gradient_scale must be >= 0"):
        UltraRefiner(CoarseNet(), refiner, prompt_gradient_scale=-1)
    with pytest.raises(ValueError, match="one channel, found 2"):
        UltraRefiner(CoarseNet(2), refiner)(image())
