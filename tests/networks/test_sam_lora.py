"""Adapters: their number, what they leave frozen, and merging."""

import pytest
import torch

from ultrarefiner_monai.networks.sam import Sam, build_sam, inject_lora, lora_rank, merge_lora


def trained(sam: Sam, seed: int = 0) -> Sam:
    """Give the second factors, which start at zero, values as training would."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sam.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=generator)
    return sam


@pytest.mark.parametrize(("rank", "expected"), [(4, 147_456), (8, 294_912)])
def test_vit_b_adapters_have_the_published_size(rank: int, expected: int) -> None:
    with torch.device("meta"):
        sam = build_sam("vit_b", lora_rank=rank)
    trainable = {name: p.numel() for name, p in sam.image_encoder.named_parameters() if p.requires_grad}
    assert sum(trainable.values()) == expected
    assert all("attn.qkv.lora_" in name for name in trainable)
    assert all(p.requires_grad for p in sam.mask_decoder.parameters())
    assert lora_rank(sam) == rank


@pytest.mark.parametrize("variant", ["tiny", "lite_medsam"])
def test_adapters_start_neutral_and_merge_exactly(variant: str) -> None:
    sam = build_sam(variant, 64)
    image = torch.rand(1, 1, 64, 64)
    names = sam.state_dict().keys()
    with torch.inference_mode():
        plain = sam.embed(image)
    inject_lora(sam.image_encoder, 2)
    with torch.inference_mode():
        torch.testing.assert_close(sam.embed(image), plain)
        adapted = trained(sam).embed(image)
        assert (adapted - plain).abs().max() > 1e-3
        merge_lora(sam)
        torch.testing.assert_close(sam.embed(image), adapted, atol=1e-5, rtol=1e-5)
    assert sam.state_dict().keys() == names
    assert lora_rank(sam) == 0


def test_only_adapters_learn() -> None:
    sam = build_sam("tiny", lora_rank=2)
    sam.embed(torch.rand(1, 1, 128, 128)).square().mean().backward()
    for name, parameter in sam.image_encoder.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name)


def test_wrong_requests_are_named() -> None:
    sam = build_sam("tiny", lora_rank=2)
    with pytest.raises(ValueError, match="already has LoRA adapters of rank 2"):
        inject_lora(sam.image_encoder, 2)
    with pytest.raises(ValueError, match="expected at least 1, found -1"):
        build_sam("tiny", lora_rank=-1)
