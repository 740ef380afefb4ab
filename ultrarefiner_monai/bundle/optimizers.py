"""Optimisers and schedules of the three phases."""

import math
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ultrarefiner_monai.bundle.preflight.plan import Plan
from ultrarefiner_monai.losses import JointLoss
from ultrarefiner_monai.networks import UltraRefiner

TINY_RATE = 2e-3
WEIGHTING_RATE = 1e-3  # of the learned weights of the joint loss
POWER = 0.9  # exponent of the polynomial decay (Chen et al., 2021)


def coarse_optimiser(network: nn.Module, variant: str, learning_rate: float | None = None) -> Optimizer:
    """Optimiser of phase 1.

    `r50_vit_b16`: SGD, 0.01, momentum 0.9, weight decay 1e-4 (Chen et al., arXiv 2102.04306, section 4.1). `tiny` starts from
    random weights, where AdamW needs far fewer epochs; its rate was chosen on BUS-BRA.
    """
    if variant == "tiny":
        return AdamW(trainable(network), lr=learning_rate or TINY_RATE, weight_decay=1e-2)
    return SGD(trainable(network), lr=learning_rate or 1e-2, momentum=0.9, weight_decay=1e-4)


def joint_optimiser(
    plan: Plan,
    network: UltraRefiner,
    loss: JointLoss,
    coarse_rate: float,
    refiner_rate: float,
) -> AdamW:
    """AdamW over three named groups: the coarse network, the refiner, and the learned weights of the joint loss.

    The rates are meant for networks that phases 1 and 2 have trained; an untrained coarse network gets phase 1's rate.
    """
    groups: list[dict[str, Any]] = [
        {
            "params": trainable(network.coarse),
            "lr": TINY_RATE if plan.phase1_checkpoint is None else coarse_rate,
            "name": "coarse",
        },
        {"params": trainable(network.refiner), "lr": refiner_rate, "name": "refiner"},
        {"params": trainable(loss), "lr": WEIGHTING_RATE, "name": "weighting", "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], weight_decay=1e-2)


def cosine(optimizer: Optimizer, steps: int) -> LambdaLR:
    """Half a cosine from the full rate to zero over `steps` iterations (Loshchilov and Hutter, arXiv 1608.03983, eq. 5).

    A function of the step alone, so that a training resumed with more epochs follows the longer curve.
    """
    return LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps)))


def warm_polynomial(optimizer: Optimizer, steps: int, warmup: float = 0.1) -> LambdaLR:
    """Polynomial decay to zero over `steps` iterations (Chen et al., 2021) after a linear warm-up.

    Args:
        optimizer: its rates are the peak.
        steps: number of iterations of the whole training.
        warmup: share of `steps` that rises linearly.
    """
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return (1 - min(step - rise, steps - rise) / max(1, steps - rise)) ** POWER

    return LambdaLR(optimizer, factor)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of `module` that a gradient reaches."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
