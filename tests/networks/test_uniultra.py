"""UniUltra: what learns, the untrained network, lesions of a batch, prompts of a map, and the parts that are exported."""

import pytest
import torch

from ultrarefiner_monai.networks import build_sam
from ultrarefiner_monai.networks.prompts.lesions import EMPTY_LOGIT, LesionPrompts, lesion_prompts
from ultrarefiner_monai.networks.uniultra import UniUltra, build, build_prompted, describe, exported_parts

SIZE = 64
SAMS = ("lite_medsam", "mini")


@pytest.fixture(scope="module", params=SAMS)
def variant(request):
    return request.param


@pytest.fixture
def network(variant):
    torch.manual_seed(0)
    return UniUltra(build_prompted(variant, SIZE)).eval()


@pytest.fixture
def scene():
    """Images (3, 1, S, S), and masks with three lesions, one and none."""
    images = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(3, 1, SIZE, SIZE)
    masks[0, 0, 4:20, 6:22] = masks[0, 0, 30:44, 8:30] = masks[0, 0, 40:60, 44:60] = 1
    masks[1, 0, 20:50, 10:40] = 1
    return images, masks


def moved(network):
    """The network with adapters that do something."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in network.sam.image_encoder.adapters.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def test_what_a_mask_depends_on_learns_and_the_encoder_stays(variant, scene):
    sam = build_prompted(variant, SIZE, version=None if variant == "lite_medsam" else "2.0")
    network = UniUltra(sam).train()
    encoder = {id(parameter) for parameter in sam.image_encoder.parameters()}
    outside = [parameter for parameter in sam.parameters() if id(parameter) not in encoder]
    everything, reached = {"lite_medsam": (4_064_560, 3_507_584), "mini": (11_726_850, 3_533_024)}[variant]
    assert count(outside) == everything  # of SAM 2.0: as published
    assert count(p for p in outside if p.requires_grad) == reached
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert all("adapters." in name for name in learning if ("image_encoder" in name) or ("vision_encoder" in name))
    frozen = {name: p.clone() for name, p in network.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.Adam(learning.values(), 1e-3)
    images, masks = scene
    for _ in range(2):  # in the first step only the adapters' last layers, which are zero, get a gradient
        optimizer.zero_grad()
        network(images, lesion_prompts(masks)).sum().backward()
        optimizer.step()
    assert all(torch.equal(p, frozen[name]) for name, p in network.named_parameters() if name in frozen)
    adapters = sam.image_encoder.adapters
    assert all(p.grad.abs().sum() > 0 for p in adapters.parameters())


def test_all_outside_of_the_encoder_may_learn():
    sam = build_prompted("lite_medsam", SIZE)
    network = UniUltra(sam, adapter_ratio=0, used_only=False)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning == {name for name, _ in network.named_parameters() if "image_encoder" not in name}
    assert not hasattr(sam.image_encoder, "adapters")


@pytest.mark.parametrize(
    ("settings", "expected"), [({}, 209_492), ({"edge": "magnitude"}, 209_492), ({"edge": "none"}, 197_904)]
)
def test_adapters_with_and_without_edges(settings, expected):
    """Context: 10 blocks of D = 128, 160, 320; edges: 5 D a block, and a stem of 64 x 4 x 9 + 4."""
    network = UniUltra(build_prompted("lite_medsam", SIZE), **settings)
    assert count(network.sam.image_encoder.adapters.parameters()) == expected
    assert network(torch.rand(1, 1, SIZE, SIZE), lesion_prompts(torch.ones(1, 1, SIZE, SIZE))).isfinite().all()


def test_the_untrained_network_is_its_sam(network, scene):
    images, masks = scene
    prompts = lesion_prompts(masks)
    plain = UniUltra(build_prompted(network.sam.variant, SIZE), adapter_ratio=0).eval()
    state = {name: value for name, value in network.state_dict().items() if ".adapters." not in name}
    plain.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(network(images, prompts), plain(images, prompts))
        assert not torch.equal(moved(network)(images, prompts), plain(images, prompts))


def test_lesions_of_a_batch_are_those_of_its_images(network, scene):
    images, masks = scene
    with torch.no_grad():
        together = network(images, lesion_prompts(masks), return_parts=True)
        alone = [network(images[i : i + 1], lesion_prompts(masks[i : i + 1]), return_parts=True) for i in range(3)]
    assert together.asked.image.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(together.logits, torch.cat([one.logits for one in alone]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        together.quality, torch.cat([one.quality for one in alone]), equal_nan=True, atol=1e-5, rtol=1e-4
    )
    assert (together.logits[2] == EMPTY_LOGIT).all() and together.quality.isnan().tolist() == [False, False, True]


def test_another_lesion_removes_no_pixel(network, scene):
    images, masks = scene
    prompts = lesion_prompts(masks[:1])
    with torch.no_grad():
        one, three = network(images[:1], prompts.split(1)[0]), network(images[:1], prompts)
    assert (three >= one - 1e-4).all() and (three > one + 1e-3).any()


def test_more_prompts_than_are_asked_at_once(network, scene):
    images = scene[0][:1]
    corners = torch.randint(0, 40, (70, 2), generator=torch.Generator().manual_seed(0)).float()
    prompts = LesionPrompts(torch.zeros(70, dtype=torch.long), torch.cat([corners, corners + 15], 1))
    with torch.no_grad():
        features = network.features(images)
        one_by_one = torch.cat([network.ask(features, part)[0] for part in prompts.split(1)])
        found = network(images, prompts, return_parts=True).lesions
    torch.testing.assert_close(found, one_by_one, atol=1e-4, rtol=1e-4)


def test_a_map_asks_about_its_lesions(network, scene):
    images, masks = scene
    probability = 0.3 * torch.rand(masks.shape) + 0.6 * masks
    with torch.no_grad():
        assert torch.equal(network(torch.cat([images, probability], 1)), network(images, lesion_prompts(masks)))
    with pytest.raises(ValueError, match="give it prompts"):
        network(images)


def test_a_batch_without_lesions_learns_nothing_and_does_not_fail(network, scene):
    network.train()
    network(scene[0], lesion_prompts(torch.zeros(3, 1, SIZE, SIZE))).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())


def test_points_ask_too(network, scene):
    images, masks = scene
    with torch.no_grad():
        found = network(images, lesion_prompts(masks, "points", points=2), return_parts=True)
        both = network(images, lesion_prompts(masks, "box_and_point"), return_parts=True)
    assert len(found.lesions) == len(both.lesions) == 4 and not torch.equal(found.lesions, both.lesions)


def test_the_mask_so_far_is_a_prompt_of_certain_logits_for_sam_2_alone(network, variant, scene, monkeypatch):
    images, masks = scene
    seen = {}
    decode = network.sam.decode
    monkeypatch.setattr(network.sam, "decode", lambda *args, **asked: seen.update(asked) or decode(*args, **asked))
    prompts = lesion_prompts(masks)
    lesions = torch.zeros(4, 1, SIZE, SIZE)
    lesions[:, :, 10:40, 10:40] = 1
    with torch.no_grad():
        usual, found = network(images, prompts), network(images, prompts._replace(masks=lesions))
    assert torch.equal(found[2], usual[2])
    assert torch.equal(found[:2], usual[:2]) == (variant == "lite_medsam")
    if variant == "lite_medsam":
        assert "masks" not in seen
    else:
        assert seen["masks"].unique().tolist() == pytest.approx([-6.907, 6.907], abs=1e-3)


def test_a_sam_without_known_places_is_refused():
    with pytest.raises(ValueError, match=r"adapters go into lite_medsam or SAM 2 .*found SAM tiny"):
        UniUltra(build_sam("tiny", SIZE))


def test_a_network_is_built_again_from_its_card(network):
    again = build(describe(network, {}))
    again.load_state_dict(network.state_dict())
    assert again.settings == network.settings and type(again.sam) is type(network.sam)


def test_encoder_and_decoder_give_what_the_network_gives(network, scene):
    moved(network)
    images, masks = scene
    prompts = lesion_prompts(masks)
    parts = exported_parts(network, SIZE)
    with torch.no_grad():
        features = parts["encoder"].network(images)
        features = (features,) if isinstance(features, torch.Tensor) else features
        of_each = tuple(level[prompts.image] for level in features)
        found = parts["decoder"].network(*of_each, prompts.boxes)
        torch.testing.assert_close(found[3], network(images, prompts)[1], atol=1e-3, rtol=1e-3)
        points = lesion_prompts(masks, "points", points=2)
        asked = parts["decoder_points"].network(*of_each, points.points, points.labels)
        torch.testing.assert_close(asked[3], network(images, points)[1], atol=1e-3, rtol=1e-3)
