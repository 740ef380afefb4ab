"""SAM 2's memory: equal to transformers' own bookkeeping of a video, and free of its traps."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from ultrarefiner_monai.networks.sam2 import Decoded, Sam2, build_sam2
from ultrarefiner_monai.networks.sam2.memory import attend, encode_memory, object_pointer

SIDE, GRID, OBJECTS = 64, 4, 2


@pytest.fixture(scope="module", params=["2.0", "2.1"])
def sam(request: pytest.FixtureRequest) -> Sam2:
    """Random everywhere: transformers starts positions in time at zero."""
    made = build_sam2("mini", SIDE, version=request.param)
    generator = torch.Generator().manual_seed(5)
    for parameter in made.parameters():
        parameter.data.normal_(std=0.1, generator=generator)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def frame() -> Tensor:
    return torch.randn(OBJECTS, 256, GRID, GRID, generator=torch.Generator().manual_seed(6))


@pytest.fixture(scope="module")
def kept() -> tuple[Tensor, Tensor]:
    """Memories and pointers of four frames."""
    generator = torch.Generator().manual_seed(7)
    memories = torch.randn(4, OBJECTS, 64, GRID, GRID, generator=generator)
    return memories, torch.randn(4, OBJECTS, 256, generator=generator)


@pytest.fixture
def decoded() -> Decoded:
    """One object in the picture, one that is not."""
    generator = torch.Generator().manual_seed(8)
    logits = torch.randn(OBJECTS, 1, SIDE // 4, SIDE // 4, generator=generator)
    return Decoded(logits, torch.ones(2, 1), torch.randn(2, 1, 256, generator=generator), torch.tensor([[3.0], [-3.0]]))


def rows(maps: Tensor) -> Tensor:
    """(N, C, g, g) as transformers passes it around, (g g, N, C)."""
    return maps.flatten(2).permute(2, 0, 1)


def transformers_own(sam: Sam2, frame: Tensor, kept: tuple[Tensor, Tensor], number: int) -> Tensor:
    """Frame `number` of a long video whose frame 0 has a prompt, and of which frames 1 to 3 are kept, by its own code."""
    network = sam.network
    code = rows(network.memory_encoder.position_encoding(kept[0][0].shape, frame.device, torch.float32))
    outputs = [
        {"maskmem_features": rows(memory), "maskmem_pos_enc": code, "object_pointer": pointer}
        for memory, pointer in zip(*kept, strict=True)
    ]
    held = {"cond_frame_outputs": {0: outputs[0]}, "non_cond_frame_outputs": dict(enumerate(outputs[1:], start=1))}
    return network._prepare_memory_conditioned_features(
        inference_session=SimpleNamespace(output_dict_per_obj={0: held}, dtype=torch.float32),
        frame_idx=number,
        obj_idx=0,
        is_initial_conditioning_frame=False,
        current_vision_features=rows(frame),
        current_vision_positional_embeddings=rows(
            network.vision_encoder.neck.position_encoding(frame.shape, frame.device, torch.float32)
        ),
        num_total_frames=40,
    )


@pytest.mark.parametrize("number", [4, 6])
def test_attention_is_that_of_a_video_in_transformers(sam: Sam2, frame: Tensor, kept: tuple, number: int):
    one = frame[:1], (kept[0][:, :1], kept[1][:, :1])  # it reshapes a single object alone
    expected = transformers_own(sam, *one, number)
    ago = torch.tensor([number, number - 1, number - 2, number - 3])
    distances = torch.where(torch.arange(4) == 0, 0, ago)
    found = attend(sam, frame[:1], one[1][0], distances, one[1][1], ago)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_objects_of_a_batch_do_not_touch_each_other(sam: Sam2, frame: Tensor, kept: tuple):
    ago = torch.tensor([1, 2, 3, 4])
    found = attend(sam, frame, kept[0], ago, kept[1], ago)
    for i in range(OBJECTS):
        alone = attend(sam, frame[i : i + 1], kept[0][:, i : i + 1], ago, kept[1][:, i : i + 1], ago)
        torch.testing.assert_close(found[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_memories_are_a_set_with_distances(sam: Sam2, frame: Tensor, kept: tuple):
    ago, order = torch.tensor([0, 1, 2, 3]), torch.tensor([2, 0, 3, 1])
    found = attend(sam, frame, kept[0], ago)
    torch.testing.assert_close(attend(sam, frame, kept[0][order], ago[order]), found, rtol=1e-4, atol=1e-5)
    moved = attend(sam, frame, kept[0], torch.tensor([0, 1, 2, 5]))
    assert (moved - found).abs().max() > 1e-4


def test_a_single_frame_remembers_itself(sam: Sam2, frame: Tensor, kept: tuple):
    none_ago = torch.zeros(1, dtype=torch.long)
    assert attend(sam, frame, kept[0][:1], none_ago, kept[1][:1], none_ago).isfinite().all()


def test_pointers_tell_time_in_2_1_alone(sam: Sam2, frame: Tensor, kept: tuple):
    ago = torch.tensor([0, 1, 2, 3])
    now, later = (attend(sam, frame, kept[0], ago, kept[1], ago + shift) for shift in (0, 3))
    assert torch.equal(now, later) == (sam.version == "2.0")


def test_pointers_need_distances(sam: Sam2, frame: Tensor, kept: tuple):
    with pytest.raises(ValueError, match="pointers and pointer_distances go together"):
        attend(sam, frame, kept[0], torch.arange(4), kept[1])


def test_a_memory_is_that_of_transformers_unrounded(sam: Sam2, frame: Tensor, decoded: Decoded):
    full = torch.nn.functional.interpolate(decoded.logits, (SIDE, SIDE), mode="bilinear", align_corners=False)
    expected, _ = sam.network._encode_new_memory(rows(frame), full, decoded.presence[:, None], False)
    found = encode_memory(sam, frame, decoded)
    assert found.shape == (OBJECTS, 64, GRID, GRID)
    assert found.dtype == torch.float32
    torch.testing.assert_close(rows(found).bfloat16(), expected, rtol=0.01, atol=1e-4)


def test_a_hidden_object_is_marked_in_2_1_alone(sam: Sam2, frame: Tensor, decoded: Decoded):
    seen = encode_memory(sam, frame, decoded._replace(presence=torch.full((2, 1), 3.0)))
    found = encode_memory(sam, frame, decoded)
    assert torch.equal(found[0], seen[0])
    mark = found[1] - seen[1]
    if sam.version == "2.0":
        assert not mark.any()
    else:
        expected = sam.network.occlusion_spatial_embedding_parameter[0, :, None, None].expand_as(mark)
        torch.testing.assert_close(mark, expected, rtol=1e-4, atol=1e-5)


def test_a_pointer_is_the_tokens_or_says_that_nothing_is_there(sam: Sam2, decoded: Decoded):
    pointer = object_pointer(sam, decoded)
    assert torch.equal(pointer[0], sam.network.object_pointer_proj(decoded.tokens)[0, 0])
    assert torch.equal(pointer[1], sam.network.no_object_pointer[0])


def test_a_frame_with_its_memory_is_decoded(sam: Sam2):
    boxes = torch.tensor([[4.0, 5, 40, 50], [10, 10, 30, 30]])
    features = sam.features(torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(9)))
    first = sam.decode(features, boxes=boxes)
    now = torch.zeros(1, dtype=torch.long)
    memory, pointer = encode_memory(sam, features.stride_16, first)[None], object_pointer(sam, first)[None]
    with_memory = attend(sam, features.stride_16, memory, now, pointer, now)
    second = sam.decode_embedded(features._replace(stride_16=with_memory), *sam.encode_prompts(2, boxes=boxes))
    assert second.logits.shape == first.logits.shape
    assert (second.logits - first.logits).abs().max() > 1e-3
