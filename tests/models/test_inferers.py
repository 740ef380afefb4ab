"""How a network is called."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from ultrarefiner_monai.models.inferers import AutocastInferer, OutputsInferer, SequenceInferer
from ultrarefiner_monai.networks import SamRefiner, build_sam
from ultrarefiner_monai.networks.prompts.lesions import LesionPrompts


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


class Looking(nn.Module):
    """A frame is itself plus what the frames up to `window` positions before it are."""

    window = 6

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def forward(self, image, sequence, position, return_parts=False):
        self.most = max(self.most, image.shape[0])
        distance = position[:, None] - position[None]
        near = (sequence[:, None] == sequence[None]) & (distance >= 0) & (distance <= self.window)
        return Parts({"mask": torch.einsum("nm,mchw->nchw", near / (1.0 + distance.abs()), image)})


class Parts(NamedTuple):
    outputs: dict[str, torch.Tensor]


LENGTHS = (11, 1, 4, 1, 9)
SEQUENCE = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
POSITION = torch.cat([torch.arange(length) * (2 if length == 9 else 1) for length in LENGTHS])  # one with gaps
FRAMES = torch.rand(sum(LENGTHS), 1, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 26, 100])
def test_a_long_sequence_in_pieces_equals_the_whole(frames):
    network = Looking()
    with torch.no_grad():
        whole = network(FRAMES, SEQUENCE, POSITION).outputs["mask"]
        network.most = 0
        found = SequenceInferer(6, frames)(FRAMES, network, sequence=SEQUENCE, position=POSITION)
    assert (found - whole).abs().max() < 1e-5
    assert network.most <= frames + 6


def test_pieces_without_the_frames_before_them_are_something_else():
    with torch.no_grad():
        whole = Looking()(FRAMES, SEQUENCE, POSITION).outputs["mask"]
        assert (OutputsInferer()(FRAMES, Looking(), sequence=SEQUENCE, position=POSITION) - whole).abs().max() < 1e-5
        short = SequenceInferer(3, 2)(FRAMES, Looking(), sequence=SEQUENCE, position=POSITION)
    assert (short - whole).abs().max() > 0.1


def test_where_memory_runs_out_pieces_get_smaller_and_nothing_changes():
    class Limited(Looking):
        def forward(self, image, *args, **kwargs):
            if image.shape[0] > 9:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(image, *args, **kwargs)

    inferer = SequenceInferer(6, 20)
    with torch.no_grad():
        found = inferer(FRAMES, Limited(), sequence=SEQUENCE, position=POSITION)
        whole = Looking()(FRAMES, SEQUENCE, POSITION).outputs["mask"]
    assert (found - whole).abs().max() < 1e-5 and inferer.micro_batch == 2


class Asking(Looking):
    """Is asked about each frame with its position, and of frames with an odd one twice."""

    def forward(self, image, sequence, position, return_parts=False):
        found = super().forward(image, sequence, position)
        number = torch.arange(len(image)).repeat_interleave(1 + position % 2)
        return AskedParts(found.outputs, LesionPrompts(number, boxes=position[number][:, None].expand(-1, 4)))


class AskedParts(NamedTuple):
    outputs: dict[str, torch.Tensor]
    asked: LesionPrompts


@pytest.mark.parametrize("frames", [1, 3, 8, 100])
def test_the_prompts_of_each_image_are_told_whatever_the_pieces(frames):
    inferer = SequenceInferer(6, frames)
    with torch.no_grad():
        for _ in range(2):  # of the latest batch alone
            inferer(FRAMES, Asking(), sequence=SEQUENCE, position=POSITION)
    for number, position in enumerate(POSITION.tolist()):
        prompts = inferer.asked(number)
        assert prompts.image.tolist() == [0] * (1 + position % 2) and prompts.boxes[:, 0].unique().tolist() == [
            position
        ]


def test_networks_without_prompts_are_asked_nothing():
    inferer = OutputsInferer()
    with torch.no_grad():
        inferer(FRAMES, Looking(), sequence=SEQUENCE, position=POSITION)
    assert inferer.asked(3) is None
