"""TransUNet: the published sizes, shapes and initialisation, and the parts against independent computations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ultrarefiner_monai.networks.hybrid_resnet import Bottleneck, GroupNorm, HybridResNet, StandardisedConv2d
from ultrarefiner_monai.networks.transunet import Attention, DecoderBlock, TransformerBlock, TransUNet, build_transunet

SMALL = {
    "width": 8,
    "units": (1, 1, 1),
    "groups": 2,
    "hidden_size": 16,
    "layers": 2,
    "heads": 2,
    "mlp_size": 32,
    "neck_channels": 16,
    "decoder_channels": (8, 8, 8, 4),
}


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.fixture(scope="module")
def published() -> TransUNet:
    """The published architecture without memory or values."""
    with torch.device("meta"):
        return build_transunet("r50_vit_b16", in_channels=3, out_channels=2)


def small(**changes) -> TransUNet:
    torch.manual_seed(0)
    return TransUNet(**({"img_size": 32} | SMALL | changes))


def test_published_parameter_counts(published):
    assert count(published) == 105_276_066
    assert count(published.resnet) == 11_894_848
    assert count(published.blocks, published.norm) == 85_056_000
    assert count(published.neck, published.decoder) == 7_387_200
    assert count(published.head) == 290


def test_published_stage_shapes(published):
    shapes = []
    modules = [*published.resnet.stages, published.embedding, published.norm, published.neck, *published.decoder]
    for module in modules:
        module.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    image = torch.empty(1, 3, 224, 224, device="meta")
    _, skips = published.resnet(image)
    shapes.clear()
    logits = published.eval()(image)

    assert [tuple(s.shape[1:]) for s in skips] == [(512, 28, 28), (256, 56, 56), (64, 112, 112)]
    assert shapes == [
        *[(256, 55, 55), (512, 28, 28), (1024, 14, 14)],
        *[(768, 14, 14), (196, 768), (512, 14, 14)],
        *[(256, 28, 28), (128, 56, 56), (64, 112, 112), (16, 224, 224)],
    ]
    assert logits.shape == (1, 2, 224, 224)


def test_one_channel_keeps_the_three_channel_root(published):
    with torch.device("meta"):
        grey = build_transunet("r50_vit_b16", in_channels=1, out_channels=2)
    assert count(grey) == count(published)


def test_one_channel_equals_the_same_image_three_times():
    grey, colour = small(in_channels=1).eval(), small(in_channels=3).eval()
    colour.load_state_dict(grey.state_dict())
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(grey(image), colour(image.repeat(1, 3, 1, 1)))


def test_initialisation():
    network = small(hidden_size=64, mlp_size=128)
    block = network.blocks[0]
    assert not network.positions.any()
    bound = (6 / (64 + 128)) ** 0.5
    for linear in (block.mlp_in, block.mlp_out):
        assert 0.9 * bound < linear.weight.abs().max() <= bound
        assert 1e-7 < linear.bias.std() < 1e-5


def test_building_twice_gives_the_same_architecture():
    first, second = build_transunet("tiny"), build_transunet("tiny")
    assert [p.shape for p in first.parameters()] == [p.shape for p in second.parameters()]


def test_tiny_size_and_output():
    network = build_transunet("tiny").eval()
    assert 1e6 < count(network) < 3e6
    assert network.img_size == 128
    with torch.inference_mode():
        assert network(torch.rand(2, 1, 128, 128)).shape == (2, 1, 128, 128)


def test_another_size_is_resampled_there_and_back():
    network = small().eval()
    image = torch.rand(1, 1, 96, 64)
    expected = F.interpolate(
        network(F.interpolate(image, (32, 32), mode="bilinear", antialias=True)), (96, 64), mode="bilinear"
    )
    torch.testing.assert_close(network(image), expected)


def test_standardised_convolution_by_hand():
    conv = StandardisedConv2d(2, 3, 3, padding=1, bias=False)
    x = torch.rand(1, 2, 5, 5)
    weight = torch.stack([(w - w.mean()) / (w.var(correction=0) + 1e-5).sqrt() for w in conv.weight])
    torch.testing.assert_close(conv(x), F.conv2d(x, weight, padding=1))


def test_group_norm_equals_torch_in_both_memory_formats():
    x = torch.randn(2, 8, 5, 5)
    norm = GroupNorm(4, 8)
    for tensor in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(norm(tensor), F.group_norm(x, 4))


def test_bottleneck_projects_only_where_shapes_change():
    assert isinstance(Bottleneck(32, 32, groups=2).projection, nn.Identity)
    conv, norm = Bottleneck(16, 32, groups=2).projection
    assert conv.kernel_size == (1, 1)
    assert (norm.num_groups, norm.eps) == (32, 1e-5)
    assert Bottleneck(32, 32, stride=2, groups=2)(torch.rand(1, 32, 8, 8)).shape == (1, 32, 4, 4)


def test_skip_padding_is_zero_on_the_right_and_bottom_only():
    _, skips = HybridResNet(1, width=4, units=(1, 1, 1), groups=2)(torch.rand(1, 1, 64, 64))
    skip = skips[1]
    assert skip.shape[-2:] == (16, 16)
    assert not skip[..., -1, :].any() and not skip[..., :, -1].any()
    assert skip[..., :15, :15].any()


def test_attention_equals_the_written_out_formula():
    attention = Attention(8, heads=2)
    x = torch.rand(2, 5, 8)
    q, k, v = (t.view(2, 5, 2, 4).transpose(1, 2) for t in attention.qkv(x).chunk(3, dim=-1))
    weights = (q @ k.transpose(-1, -2) / 4**0.5).softmax(-1)
    expected = attention.out((weights @ v).transpose(1, 2).reshape(2, 5, 8))
    torch.testing.assert_close(attention(x), expected)


def test_transformer_block_gradients():
    torch.manual_seed(0)
    block = TransformerBlock(4, 2, 6, dropout=0.0).double()
    assert torch.autograd.gradcheck(block, torch.rand(1, 3, 4, dtype=torch.double, requires_grad=True))


def test_decoder_joins_the_upsampled_input_and_the_skip():
    block = DecoderBlock(4, 2, 3).eval()
    x, skip = torch.rand(1, 4, 4, 4), torch.rand(1, 2, 8, 8)
    upsampled = F.interpolate(x, size=(8, 8), mode="bilinear", align_corners=True)
    torch.testing.assert_close(block(x, skip), block.conv2(block.conv1(torch.cat([upsampled, skip], 1))))


def test_every_parameter_gets_a_gradient():
    network = small()
    network(torch.rand(2, 1, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_it_learns_one_image():
    network = small(dropout=0.0)
    target = torch.zeros(2, 1, 32, 32)
    target[..., 8:20, 10:26] = 1
    image = 0.2 + 0.5 * target + 0.1 * torch.rand_like(target)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(40):
        loss = F.binary_cross_entropy_with_logits(network(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((network(image) > 0) == target.bool()).float().mean() > 0.97


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"img_size": 100}, "img_size must be a positive multiple of 16, found 100"),
        ({"decoder_channels": (8, 8)}, r"decoder_channels must give 4 blocks, found \(8, 8\)"),
        ({"units": (1, 1)}, r"units must give the bottlenecks of 3 stages, found \(1, 1\)"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_wrong_number_of_channels_is_named():
    with pytest.raises(ValueError, match=r"images of 1 channels, found shape \(1, 2, 32, 32\)"):
        small()(torch.rand(1, 2, 32, 32))


def test_unknown_variant_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown TransUNet variant 'huge', expected one of r50_vit_b16, tiny"):
        build_transunet("huge")
