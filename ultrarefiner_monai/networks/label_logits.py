"""Logits l_1..l_K of K labels against a background of zero, (N, K, H, W): softmax over [0, l_1, .., l_K]."""

import torch
from torch import Tensor


def with_background(logits: Tensor) -> Tensor:
    """Logits (N, 1 + K, H, W) of background and labels."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)


def any_label(logits: Tensor) -> Tensor:
    """Logits (N, 1, H, W) of any label, 1 - p_0 of the softmax: log(exp l_1 + .. + exp l_K); of one label its own."""
    return logits.logsumexp(1, keepdim=True)


def each_label(logits: Tensor) -> Tensor:
    """The probability p_k of each label as a logit (N, K, H, W) of its own: l_k - log(1 + sum_(j != k) exp l_j)."""
    planes = with_background(logits)
    others = (planes[:, [j for j in range(planes.shape[1]) if j != k]] for k in range(1, planes.shape[1]))
    return torch.cat([logits[:, [k]] - other.logsumexp(1, keepdim=True) for k, other in enumerate(others)], 1)
