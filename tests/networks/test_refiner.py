"""SamRefiner: formula of the output, frozen encoder, gradients by prompt, empty maps, batches."""

import pytest
import torch
import torch.nn.functional as F
from fake_sam import FakeSam
from torch import Tensor

from ultrarefiner_monai.networks import PromptGenerator, SamRefiner, build_sam, inject_lora

OFF = {"positive_points": 0, "negative_points": 0, "box": False, "mask": False}
ALONE = [{"positive_points": 1}, {"negative_points": 1}, {"box": True}, {"mask": True}]


def lesion(size: int, count: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and soft coarse maps (count, 1, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(size)
    centres = size * (0.35 + 0.3 * torch.rand(count, 2, 1, 1, generator=generator))
    distance = ((axis - centres[:, 0]) ** 2 + (axis[:, None] - centres[:, 1]) ** 2).sqrt()
    coarse = ((size / 5 - distance) / 1.5).sigmoid()[:, None]
    image = 0.4 * torch.rand(count, 1, size, size, generator=generator) + 0.5 * (1 - coarse)
    return image, coarse


@pytest.fixture
def refiner() -> SamRefiner:
    torch.manual_seed(0)
    return SamRefiner(FakeSam())


def test_output_is_the_weighted_candidates_fused_with_the_coarse_mask(refiner):
    image, coarse = lesion(32, 2)
    parts = refiner.refine(image, coarse)
    weights = torch.softmax(parts.iou / 0.1, 1)
    low = torch.einsum("bm,bmhw->bhw", weights, parts.candidates)[:, None]
    mask = F.interpolate(low, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(parts.mask_logits, mask)
    torch.testing.assert_close(parts.logits.sigmoid(), (coarse + mask.sigmoid()) / 2, atol=2e-6, rtol=0)
    torch.testing.assert_close(parts.coarse_logits.sigmoid(), coarse, atol=2e-6, rtol=0)


def test_without_fusion_the_output_is_sams_mask():
    parts = SamRefiner(FakeSam(), fusion="none").refine(*lesion(32))
    assert torch.equal(parts.logits, parts.mask_logits)


def test_forward_takes_image_and_coarse_as_channels(refiner):
    image, coarse = lesion(32, 2)
    x = torch.cat([image, coarse], 1)
    parts = refiner(x, return_parts=True)
    assert torch.equal(refiner(x), parts.logits)
    assert torch.equal(parts.logits, refiner.refine(image, coarse).logits)


def test_known_embedding_replaces_the_encoder(refiner):
    image, coarse = lesion(32)
    embedding = refiner.embed(image)
    assert torch.equal(
        refiner.refine(torch.zeros_like(image), coarse, embedding).logits, refiner.refine(image, coarse).logits
    )


@pytest.mark.parametrize("prompt", ALONE, ids=lambda prompt: next(iter(prompt)))
def test_gradient_reaches_the_coarse_map_through_each_prompt_alone(prompt):
    image, coarse = lesion(32, 2)
    coarse.requires_grad_()
    refiner = SamRefiner(FakeSam(), PromptGenerator(**{**OFF, **prompt}), fusion="none")
    refiner.refine(image, coarse).logits.mean().backward()
    norms = coarse.grad.flatten(1).norm(dim=1)
    assert ((norms > 0) & norms.isfinite()).all()


def test_prompt_gradient_scale_acts_on_the_prompts_alone():
    image, coarse = lesion(32)
    coarse.requires_grad_()
    direct, full, half = (
        torch.autograd.grad(SamRefiner(sam).refine(image, coarse, prompt_gradient_scale=scale).logits.mean(), coarse)[0]
        for sam in [FakeSam()]
        for scale in (0.0, 1.0, 0.5)
    )
    assert direct.norm() > 0
    torch.testing.assert_close(half, (direct + full) / 2)
    assert not torch.allclose(direct, full)


def test_frozen_encoder_does_not_drift_and_builds_no_graph(refiner):
    before = {name: value.clone() for name, value in refiner.sam.image_encoder.state_dict().items()}
    refiner.train()
    assert not any(module.training for module in refiner.sam.image_encoder.modules())
    assert not refiner.embed(lesion(32)[0]).requires_grad
    optimizer = torch.optim.AdamW([p for p in refiner.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        refiner.refine(*lesion(32, 3)).logits.square().mean().backward()
        optimizer.step()
    after = refiner.sam.image_encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert refiner.sam.mask_decoder.weight.grad.norm() > 0


def test_unfrozen_encoder_trains():
    refiner = SamRefiner(FakeSam(), freeze_image_encoder=False).train()
    assert refiner.sam.image_encoder.training
    refiner.refine(*lesion(32, 3)).logits.mean().backward()
    assert refiner.sam.image_encoder[0].weight.grad.norm() > 0


def test_empty_and_nan_maps_fall_back_to_the_coarse_mask(refiner):
    image, coarse = lesion(32, 4)
    coarse[1] = 0.01
    coarse[2] = 1.0
    coarse[3, 0, 4, 4] = torch.nan
    parts = refiner.refine(image, coarse)
    assert parts.prompts.empty.tolist() == [False, True, True, True]
    assert parts.mask_logits.isfinite().all()
    torch.testing.assert_close(parts.logits[1:].sigmoid(), coarse[1:].nan_to_num(0.0), atol=2e-6, rtol=0)


def test_empty_map_passes_its_gradient_straight_to_the_coarse_mask(refiner):
    image, coarse = lesion(32)
    coarse = torch.full_like(coarse, 0.2).requires_grad_()
    refiner.refine(image, coarse).logits.sum().backward()
    torch.testing.assert_close(coarse.grad, torch.full_like(coarse, 1 / (0.2 * 0.8)))


@pytest.mark.parametrize("sam", [FakeSam, lambda: build_sam("tiny")], ids=["fake", "tiny"])
def test_batch_equals_single_images(sam):
    torch.manual_seed(0)
    refiner = SamRefiner(sam()).eval()
    image, coarse = lesion(refiner.sam.image_size, 3)
    coarse[1] = 0
    with torch.no_grad():
        batch = refiner.refine(image, coarse)
        for i in range(3):
            single = refiner.refine(image[i : i + 1], coarse[i : i + 1])
            for name in ("logits", "mask_logits", "candidates", "iou"):
                torch.testing.assert_close(getattr(batch, name)[i : i + 1], getattr(single, name), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt", ALONE, ids=lambda prompt: next(iter(prompt)))
def test_real_decoder_answers_to_each_prompt_alone(prompt):
    torch.manual_seed(0)
    sam = build_sam("tiny")
    image, coarse = lesion(sam.image_size, 2)
    coarse.requires_grad_()
    parts = SamRefiner(sam, PromptGenerator(**{**OFF, **prompt}), fusion="none").refine(image, coarse)
    parts.logits.square().mean().backward()
    norms = coarse.grad.flatten(1).norm(dim=1)
    assert ((norms > 0) & norms.isfinite()).all()
    assert parts.logits.shape == coarse.shape


def test_mask_prompt_has_sams_own_grid():
    sam = build_sam("tiny")
    parts = SamRefiner(sam).refine(*lesion(sam.image_size))
    assert parts.prompts.masks.shape[2:] == parts.candidates.shape[2:]


def test_adapters_train_in_a_frozen_encoder():
    sam = build_sam("tiny")
    inject_lora(sam.image_encoder, 2)
    refiner = SamRefiner(sam).train()
    refiner.refine(*lesion(sam.image_size)).logits.square().mean().backward()
    trained = {name for name, p in sam.image_encoder.named_parameters() if p.grad is not None and p.grad.norm() > 0}
    assert trained
    assert all("lora_" in name for name in trained)
    assert not any(p.requires_grad for name, p in sam.image_encoder.named_parameters() if "lora_" not in name)


def test_settings_are_plain_and_name_what_decides_a_prediction():
    settings = SamRefiner(FakeSam(), PromptGenerator(box_margin=0.1), fusion="uncertainty").settings
    assert all(isinstance(value, (str, int, float, bool)) for value in settings.values())
    assert settings["sam_variant"] == "fake"
    assert settings["image_size"] == 32
    assert settings["prompt_box_margin"] == 0.1
    assert settings["fusion_mode"] == "uncertainty"


def test_wrong_sizes_are_refused(refiner):
    image, coarse = lesion(16)
    with pytest.raises(ValueError, match=r"image must be \(B, 1, 32, 32\)"):
        refiner.refine(image, coarse)
    with pytest.raises(ValueError, match="two channels"):
        refiner(torch.zeros(1, 3, 32, 32))
