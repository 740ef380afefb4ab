"""Fused attention equals segment-anything's eager code on the same weights."""

import pytest
import torch

from ultrarefiner_monai.networks.sam import build_sam
from ultrarefiner_monai.networks.sam.attention import FusedEncoderAttention, set_attention
from ultrarefiner_monai.networks.sam.segment_anything_import import import_segment_anything

image_encoder = import_segment_anything("modeling.image_encoder")


@pytest.mark.parametrize("size", [4, 7], ids=["windowed", "global"])
def test_fused_encoder_attention_equals_the_eager_one(size: int) -> None:
    torch.manual_seed(0)
    eager = image_encoder.Attention(48, num_heads=3, use_rel_pos=True, input_size=(size, size))
    fused = FusedEncoderAttention(48, num_heads=3, use_rel_pos=True, input_size=(size, size))
    for table in (eager.rel_pos_h, eager.rel_pos_w):
        torch.nn.init.normal_(table)
    fused.load_state_dict(eager.state_dict())
    tokens = torch.randn(2, size, size, 48)
    torch.testing.assert_close(fused(tokens), eager(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("image_size", [128, 96], ids=["whole windows", "padded windows"])
def test_whole_encoder_and_decoder_agree(image_size: int) -> None:
    torch.manual_seed(0)
    sam = build_sam("tiny", image_size)
    for name, parameter in sam.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    image = torch.rand(2, 1, image_size, image_size)
    boxes = torch.tensor([[10.0, 20, 60, 70], [0, 0, 90, 40]])

    def run() -> tuple[torch.Tensor, ...]:
        embedding = sam.embed(image)
        return (embedding, *sam.decode(embedding, boxes=boxes))

    assert sum(isinstance(module, FusedEncoderAttention) for module in sam.modules()) == 2
    fused = run()
    set_attention(sam, fused=False)
    assert not any(isinstance(module, FusedEncoderAttention) for module in sam.modules())
    torch.testing.assert_close(fused, run(), atol=1e-5, rtol=0)
