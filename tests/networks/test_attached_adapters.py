"""Adapters on LiteMedSAM, on SAM 2 and on a small encoder: sizes, identity, what learns, copies, threads."""

import io
from copy import deepcopy
from threading import Barrier, Thread

import pytest
import torch
from small_encoder import SmallEncoder, randomised
from torch import nn

from ultrarefiner_monai.networks.adapters import (
    AdapterPlaces,
    add_adapters,
    hiera_places,
    hiera_stage_ends,
    tiny_vit_places,
    watch,
)
from ultrarefiner_monai.networks.adapters.places import BlockPlace
from ultrarefiner_monai.networks.sam import build_sam

SAM2 = {  # width, heads, blocks, global blocks, windows: the tables of SAM 2's Hiera; background of positions 7
    "mini": (16, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7]),
    "tiny": (96, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7]),
    "large": (144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8]),
}


def vision_encoder(variant):
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig, Sam2VisionModel

    width, heads, blocks, whole, windows = SAM2[variant]
    widths = [width * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)],
        window_size_per_stage=windows,
        window_positional_embedding_background_size=[7, 7],
        global_attention_blocks=whole,
    )
    return Sam2VisionModel(Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1]))


def adapt(encoder, **settings):
    places = hiera_places(encoder.backbone) if hasattr(encoder, "backbone") else tiny_vit_places(encoder)
    return add_adapters(encoder, places, **settings)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def output(encoder, image):
    """All that the encoder gives, in one row."""
    found = encoder(image)
    maps = [found] if isinstance(found, torch.Tensor) else found.fpn_hidden_states
    return torch.cat([plane.flatten() for plane in maps])


@pytest.fixture
def encoder(variant):
    torch.manual_seed(0)
    return build_sam(variant, 64).image_encoder if variant == "lite_medsam" else vision_encoder(variant).eval()


both = pytest.mark.parametrize("variant", ["lite_medsam", "mini"])


@pytest.mark.parametrize("edge", ["directions", "magnitude"])
@pytest.mark.parametrize(
    ("variant", "plain", "blocks", "stem"),
    [("large", 212_703_280, 9_066_744, 5_188), ("mini", 820_256, 36_772, 580)],
)
def test_sizes_on_sam2(variant, plain, blocks, stem, edge):
    with torch.device("meta"):
        encoder = vision_encoder(variant)
        assert count(encoder) == plain
        adapters = adapt(encoder, edge=edge)
    assert (count(adapters.blocks), count(adapters.stem)) == (blocks, stem)
    assert count(encoder) == plain + blocks + stem


def test_size_on_lite_medsam():
    with torch.device("meta"):
        encoder = build_sam("lite_medsam").image_encoder
        adapters = adapt(encoder)
    assert len(adapters.blocks) == 10 and count(adapters) == 209_492
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == 209_492


@pytest.mark.parametrize("variant", ["lite_medsam", "mini", "tiny"])
def test_identity_at_the_start(encoder):
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = output(encoder, image)
        adapters = adapt(encoder)
        assert torch.equal(output(encoder, image), before)
        randomised(adapters)
        assert (output(encoder, image) - before).abs().max() > 1e-2


@both
def test_adapters_alone_learn(encoder):
    """Last layers at the first step, all at the second; what is frozen keeps its bytes, the neck included."""
    adapters = adapt(encoder)
    frozen = {name: value.clone() for name, value in encoder.state_dict().items() if not name.startswith("adapters.")}
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(adapters.parameters(), 1e-2)
    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        output(encoder, image).square().mean().backward()
        moved.append({name for name, parameter in adapters.named_parameters() if parameter.grad.abs().max() > 0})
        optimizer.step()
    everything = {name for name, _ in adapters.named_parameters()}
    assert moved[0] == {name for name in everything if ".up." in name or ".edge." in name}
    assert moved[1] == everything
    assert not any("kernels" in name for name in [*everything, *encoder.state_dict()])
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == {f"adapters.{n}" for n in everything}
    after = encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in frozen.items())


@both
def test_published_names_stay(encoder):
    names = set(encoder.state_dict())
    adapters = adapt(encoder)
    assert set(encoder.state_dict()) == names | {f"adapters.{name}" for name in adapters.state_dict()}
    with pytest.raises(ValueError, match="already has adapters"):
        adapt(encoder)


def test_the_stages_of_sam2_end_where_its_neck_reads():
    torch.manual_seed(0)
    encoder = vision_encoder("mini").eval()
    adapt(encoder)
    randomised(encoder.adapters)
    ends = hiera_stage_ends(encoder)
    blocks = [encoder.backbone.blocks[number] for number in (0, 2, 9)]
    modules = [end.adapter for end in ends] + blocks
    with torch.no_grad(), watch(modules) as found:
        maps = encoder(torch.rand(1, 3, 64, 96)).fpn_hidden_states
    assert [tuple(plane.shape) for plane in maps] == [(1, 256, 16, 24), (1, 256, 8, 12), (1, 256, 4, 6)]
    terms, outputs = found[:3], found[3:]
    assert [term.shape for term in terms] == [output.shape for output in outputs]
    for end, output, plane in zip(ends[:2], outputs, maps, strict=False):  # levels that no coarser one is added to
        torch.testing.assert_close(end.lateral(output.permute(0, 3, 1, 2)), plane)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_step_lights_its_own_columns(channels_last):
    """A vertical step at column 9 of an 8 x 12 grid, read from one channel of four, written to one of four."""
    mlp = nn.Linear(4, 4)
    first = nn.Identity()
    holder = nn.Sequential(first, mlp)
    places = AdapterPlaces(first, 4, channels_last, (BlockPlace(mlp, nn.Identity(), 4),))
    adapters = add_adapters(holder, places)
    for parameter in holder.parameters():
        nn.init.zeros_(parameter)
    patches = torch.rand(2, 8, 12, 4)
    patches[..., 1] = 0.0
    patches[..., 9:, 1] = 1.0
    with torch.no_grad():
        adapters.stem.conv.weight[:, 1, 1, 1] = 1.0
        adapters.blocks[0].edge.weight[2, 0] = 1.0
        first(patches if channels_last else patches.permute(0, 3, 1, 2))
        found = mlp(patches)
    assert found[..., 8:10, 2].min() > 1
    found[..., 8:10, 2] = 0
    assert found.abs().max() == 0


@pytest.mark.parametrize("edge", ["directions", "magnitude"])
def test_copies_and_traces_act_with_their_own_adapters(edge):
    encoder = randomised(SmallEncoder(edge=edge)).eval()
    image = torch.rand(3, 3, 32, 48)
    with torch.no_grad():
        expected = encoder(image)[0]
        copy = deepcopy(encoder)
        traced = torch.jit.trace(FirstMap(encoder), image[:2], check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
        buffer.seek(0)
        randomised(encoder.adapters, seed=1)
        assert not torch.allclose(encoder(image)[0], expected)
        assert torch.equal(copy(image)[0], expected)
        assert torch.equal(torch.jit.load(buffer)(image), expected)  # a batch of 3 after an example of 2


class FirstMap(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, image):
        return self.encoder(image)[0]


def test_threads_do_not_see_each_others_patches():
    encoder = randomised(SmallEncoder()).eval()
    images = torch.rand(2, 1, 3, 32, 32)
    with torch.no_grad():
        expected = [encoder(image)[0] for image in images]
    barrier, found = Barrier(2, timeout=20), {}

    def meet(*_):
        barrier.wait()

    handle = encoder.blocks[0].norm.register_forward_hook(meet)

    def run(number):
        with torch.no_grad():
            found[number] = encoder(images[number])[0]

    threads = [Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handle.remove()
    assert all(torch.equal(found[number], expected[number]) for number in range(2))
    assert not encoder.adapters._features


def test_a_block_alone_is_refused():
    with pytest.raises(RuntimeError, match="run the whole encoder"):
        SmallEncoder().blocks[1](torch.rand(1, 4, 4, 8))
