"""The class prompt encoder: its size, its noise, what reaches what."""

import math

import pytest
import torch

from ultrarefiner_monai.networks.prompts.class_prompts import ClassPromptEncoder, noise_scale

GRID = (12, 8)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def make(**settings):
    torch.manual_seed(0)
    return ClassPromptEncoder(2, GRID, 16, **{"zero_start": False, **settings}).eval()


def test_parts_have_the_published_sizes():
    encoder = ClassPromptEncoder(2, (64, 64), class_mode="scalar")
    parts = {"plane": 8192, "enc1": 185_024, "enc2": 221_440, "middle": 590_208, "dense_gate": 16_640}
    parts |= {"sparse_gate": 16_640, "dense_decoder": 590_336, "sparse_decoder": 590_336}
    assert {name: count(getattr(encoder, name)) for name in parts} == parts
    assert count(encoder) == 2_218_816
    assert count(ClassPromptEncoder(2, (32, 32), class_mode="scalar")) == 2_212_672
    assert count(ClassPromptEncoder(2, (64, 64))) == 2_210_624 + 3 * 64 * 64
    assert count(ClassPromptEncoder(2, (64, 64), stride=2)) == 2_210_624 + 3 * 32 * 32


@pytest.mark.parametrize("mode", ["embedding", "scalar"])
def test_one_image_gives_named_prompts_of_sams_shapes(mode):
    prompts = make(class_mode=mode)(torch.randn(1, 16, *GRID), torch.tensor([1]))
    assert prompts.sparse.shape == (1, 2, 16) and prompts.dense.shape == (1, 16, *GRID)
    assert (prompts.dense < 0).any() and (prompts.sparse < 0).any()  # no ReLU at the end


@pytest.mark.parametrize(("steps", "variance"), [(7, 0.52742), (100, 0.63508)])
def test_noise_in_one_go_equals_noise_step_by_step(steps, variance):
    """Published as x <- x + eps / (t + 1) for t = T..1; four million draws."""
    assert noise_scale(steps) ** 2 == pytest.approx(variance, abs=1e-5)
    generator = torch.Generator().manual_seed(0)
    draws = torch.zeros(4_000_000)
    for t in range(steps, 0, -1):
        draws += torch.randn(draws.shape, generator=generator) / (t + 1)
    assert draws.var().item() == pytest.approx(variance, rel=0.01)
    assert abs(draws.mean().item()) < 5 * noise_scale(steps) / math.sqrt(len(draws))


def scaled(embedding):
    """Each image's embedding in units of its standard deviation."""
    return torch.stack([one / one.std() for one in embedding])


def test_noise_is_added_to_the_embedding():
    encoder, embedding, label = make(), 0.1 * torch.randn(2, 16, *GRID), torch.tensor([1, 2])
    noise = torch.randn(2, 16, *GRID)
    assert torch.equal(encoder(embedding, label).dense, encoder(embedding, label).dense)
    seen = []
    encoder.enc1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    encoder(embedding, label, noise)
    plane = encoder.plane.weight[label].view(2, 1, *GRID)
    torch.testing.assert_close(seen[0], torch.cat([scaled(embedding) + plane + noise, plane], 1))


def test_noise_is_drawn_for_each_image_and_class_from_the_seed():
    encoder, embedding = make(), torch.zeros(400, 16, *GRID)

    def seeded(seed, *parts):
        torch.manual_seed(seed)
        return torch.cat([encoder.draw_noise(part) for part in parts])

    noise = seeded(1, embedding)
    assert noise.shape == (400, 2, 16, *GRID)
    assert torch.equal(noise, seeded(1, embedding)) and not torch.equal(noise, seeded(2, embedding))
    assert noise.std().item() == pytest.approx(math.sqrt(0.52742), rel=0.01)
    assert torch.equal(noise, seeded(1, embedding[:3], embedding[3:4], embedding[4:]))  # pieces of a batch
    planes = noise.flatten(2)[:2].flatten(0, 1)
    assert torch.corrcoef(planes).fill_diagonal_(0).abs().max() < 0.15  # no image or class has another's


@pytest.mark.parametrize(("drift", "times"), [("mean", 1), ("sum", 7)])
def test_drift_adds_the_plane_once_or_at_each_step(drift, times):
    encoder = make(drift=drift)
    seen = []
    encoder.enc1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    embedding = torch.randn(1, 16, *GRID)
    encoder(embedding, torch.tensor([2]))
    plane = encoder.plane.weight[2].view(1, 1, *GRID)
    torch.testing.assert_close(seen[0], torch.cat([scaled(embedding) + times * plane, plane], 1))


def test_with_a_stride_prompts_are_made_of_means_of_cells():
    encoder, plain = make(stride=2), ClassPromptEncoder(2, (6, 4), 16, zero_start=False).eval()
    plain.load_state_dict(encoder.state_dict())
    embedding, label = torch.randn(3, 16, *GRID), torch.tensor([1, 2, 1])
    noise = encoder.draw_noise(embedding)
    assert noise.shape == (3, 2, 16, 6, 4)
    means = embedding.unflatten(3, (4, 2)).unflatten(2, (6, 2)).mean((3, 5))
    found, expected = encoder(embedding, label, noise[:, 0]), plain(means, label, noise[:, 0])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", ["embedding", "scalar"])
def test_another_class_gives_other_prompts(mode):
    encoder, embedding = make(class_mode=mode), torch.randn(1, 16, *GRID)
    first, second = (encoder(embedding, torch.tensor([number])) for number in (1, 2))
    assert not torch.equal(first.sparse, second.sparse) and not torch.equal(first.dense, second.dense)


@pytest.mark.parametrize("zero_start", [True, False])
def test_gradients_reach_every_part_by_the_second_step(zero_start):
    encoder = make(zero_start=zero_start).train()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    for _ in range(2):  # with zero last layers, the first step moves those alone
        optimizer.zero_grad()
        prompts = encoder(torch.randn(2, 16, *GRID), torch.tensor([1, 2]))
        ((prompts.sparse - 1).square().mean() + (prompts.dense - 1).square().mean()).backward()
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.norm() > 0 for parameter in encoder.parameters())


def test_tokens_are_of_the_upper_and_the_lower_half():
    """An impulse in the last rows moves token 1 alone, but for what the global gate passes on."""
    encoder, embedding = make(), torch.randn(1, 16, 32, 8)
    encoder = ClassPromptEncoder(1, (32, 8), 16, zero_start=False).eval()
    torch.nn.init.zeros_(encoder.sparse_gate.weight)
    impulse = embedding.clone()
    impulse[..., -1, :] = embedding[..., -1, :].flip(-1)  # as far from its mean as before
    before, after = (encoder(found, torch.tensor([1])).sparse for found in (embedding, impulse))
    # Nine convolutions of 3 x 3 lie between: an impulse reaches nine rows.
    moved = (before - after).abs().amax((0, 2))
    assert moved[0] < 1e-6 < 1e-4 < moved[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "steps must be >= 0, found -1"),
        ({"stride": 0}, r"stride must be >= 1 and divide the grid \(12, 8\), found 0"),
        ({"stride": 8}, r"stride must be >= 1 and divide the grid \(12, 8\), found 8"),
        ({"class_mode": "word"}, "class_mode must be one of embedding, scalar, found 'word'"),
        ({"drift": "none"}, "drift must be one of mean, sum, found 'none'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)
    with pytest.raises(ValueError, match=r"made for embeddings of \(12, 8\), found \(8, 12\)"):
        make()(torch.zeros(1, 16, 8, 12), torch.tensor([1]))


def test_the_scale_of_an_embedding_does_not_matter():
    encoder = ClassPromptEncoder(1, (4, 6), 8, zero_start=False).eval()
    embedding = torch.randn(2, 8, 4, 6)
    label = torch.ones(2, dtype=torch.long)
    with torch.no_grad():
        for found, expected in zip(encoder(0.1 * embedding, label), encoder(embedding, label), strict=True):
            torch.testing.assert_close(found, expected)
        assert all(torch.isfinite(part).all() for part in encoder(torch.zeros(2, 8, 4, 6), label))
