"""Schedules, and the optimizers that the configurations name."""

import json
import math

import pytest
import torch
from torch import nn

from ultrarefiner_monai.bundle import cosine, decay_from, warm_polynomial
from ultrarefiner_monai.shipped import BUNDLES


def test_warm_polynomial_rises_peaks_and_ends_at_zero():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warm_polynomial(optimizer, steps=100, warmup=0.1)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5**0.9)
    assert optimizer.param_groups[0]["lr"] == 0


def test_cosine_is_a_function_of_the_step_alone():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    short = cosine(optimizer, steps=10)
    for _ in range(10):
        optimizer.step()
        short.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    longer = cosine(optimizer, steps=20)
    longer.load_state_dict(short.state_dict())
    longer.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * (1 + math.cos(math.pi * 11 / 20)))


def test_the_published_coarse_network_is_trained_as_in_its_paper():
    """Chen et al., arXiv 2102.04306, section 4.1."""
    config = json.loads((BUNDLES / "phase1" / "configs" / "train.json").read_text(encoding="utf-8"))
    published = config["optimizers"]["r50_vit_b16"]
    assert published["_target_"] == "torch.optim.SGD" and published["lr"] == "$@learning_rate or 0.01"
    assert (published["momentum"], published["weight_decay"]) == (0.9, 1e-4)


def test_a_cosine_may_begin_anew():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = cosine(optimizer, steps=10, first=4)
    rates = []
    for _ in range(12):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:4] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)])
    assert rates[4:] == pytest.approx([*(0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)), 0.0, 0.0])


def test_a_groups_rate_decays_from_the_epoch_in_which_it_begins():
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]], "lr": 1.0}, {"params": [weights[1]], "lr": 0.5}])
    schedule, rates = decay_from(optimizer, 0.5, [0, 2]), []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert rates == [[1.0, 0.5], [0.5, 0.5], [0.25, 0.5], [0.125, 0.25]]
