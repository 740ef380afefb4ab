"""Random states survive a file that may hold plain values only."""

import random

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import RandGaussianNoise

from ultrarefiner_monai.handlers.random_states import capture_random_states, reseed_transforms, restore_random_states


def draw(generator):
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        float(torch.rand(())),
        float(torch.rand((), generator=generator)),
    )


def test_states_round_trip_through_a_plain_file(tmp_path):
    generator = torch.Generator().manual_seed(3)
    draw(generator)  # leaves half a Gaussian pair waiting in Python and in NumPy
    torch.save(capture_random_states(generator), tmp_path / "states.pt")
    expected = draw(generator)
    restore_random_states(torch.load(tmp_path / "states.pt", weights_only=True), generator)
    assert draw(generator) == expected


def test_transforms_follow_from_torchs_generator():
    class Loader:
        dataset = Dataset([torch.zeros(4)], RandGaussianNoise(prob=1.0))

    noise = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        reseed_transforms(Loader())
        noise.append(Loader.dataset[0])
    assert torch.equal(noise[0], noise[1]) and not torch.equal(noise[0], noise[2])
