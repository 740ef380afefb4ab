"""Parameters that learn, and schedules of their rates."""

import math
from collections.abc import Sequence
from functools import partial

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

POWER = 0.9  # exponent of the polynomial decay (Chen et al., arXiv 2102.04306)


def trainable(module: nn.Module, without: nn.Module | None = None) -> list[nn.Parameter]:
    """Parameters of `module` that a gradient reaches, without those of a part."""
    left_out = set() if without is None else set(without.parameters())
    return [parameter for parameter in module.parameters() if parameter.requires_grad and parameter not in left_out]


def cosine(optimizer: Optimizer, steps: int, first: int = 0) -> LambdaLR:
    """Half a cosine from the full rate to zero over `steps` iterations (Loshchilov and Hutter, arXiv 1608.03983, eq. 5).

    A function of the step alone, so that a training resumed with more epochs follows the longer curve.

    Args:
        optimizer: its rates are the peak.
        steps: number of iterations of the whole training.
        first: iterations that have a half cosine of their own, after which the rate begins anew.
    """

    def factor(step: int) -> float:
        done, length = (step, first) if step < first else (min(step, steps) - first, steps - first)
        return 0.5 * (1 + math.cos(math.pi * done / length))

    return LambdaLR(optimizer, factor)


def decay_from(optimizer: Optimizer, decay: float, begins: Sequence[int]) -> LambdaLR:
    """Each group's rate times `decay` from one epoch to the next, counted from the epoch in which it begins to learn.

    Args:
        optimizer: its rates are those of the first epoch of a group.
        decay: factor of an epoch.
        begins: epochs that come before, one number a group; until then its rate is whole.
    """

    def factor(begin: int, epoch: int) -> float:
        return decay ** max(0, epoch - begin)

    return LambdaLR(optimizer, [partial(factor, begin) for begin in begins])


def warm_polynomial(optimizer: Optimizer, steps: int, warmup: float = 0.1) -> LambdaLR:
    """Polynomial decay to zero over `steps` iterations (Chen et al., 2021) after a linear warm-up; without one it is nnU-Net's.

    Args:
        optimizer: its rates are the peak.
        steps: number of iterations of the whole training, or of epochs where it is stepped once in each.
        warmup: share of `steps` that rises linearly; 0: none.
    """
    rise = max(1, round(warmup * steps)) if warmup else 0

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return (1 - min(step - rise, steps - rise) / max(1, steps - rise)) ** POWER

    return LambdaLR(optimizer, factor)
