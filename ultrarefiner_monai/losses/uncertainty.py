"""Several losses as one, with weights that are learned from the losses' own uncertainty."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Weighting = Literal["log1p", "kendall", "fixed"]


class UncertaintyLoss(nn.Module):
    """Weighs n losses L_i by log variances s_i, which start at 0 and are among the optimizer's parameters, without decay.

    "kendall": sum_i exp(-s_i) L_i / 2 + s_i / 2 (homoscedastic uncertainty, Kendall et al., CVPR 2018), least at
    exp(s_i) = L_i, unbounded below as L_i -> 0.
    "log1p": sum_i exp(-s_i) L_i / 2 + ln(1 + exp(s_i)) (Liebel and Koerner, arXiv 1805.06334), never negative, least at
    exp(s_i) = (L_i + sqrt(L_i^2 + 8 L_i)) / 4.
    "fixed": sum_i w_i L_i; nothing is learned.

    Losses inherit from it; `components` holds the last call's parts, detached.

    Args:
        terms: names of the losses.
        weighting: see above.
        fixed: weights w_i by name for "fixed"; those that are not named weigh 1.

    Raises:
        ValueError: an unknown weighting or term, a negative weight, or weights beside learned ones.
    """

    def __init__(self, terms: Sequence[str], weighting: Weighting, fixed: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if weighting not in get_args(Weighting):
            raise ValueError(f"weighting must be one of {', '.join(get_args(Weighting))}, found {weighting!r}")
        fixed = {} if fixed is None else dict(fixed)
        if fixed and weighting != "fixed":
            raise ValueError(f"weights of {', '.join(fixed)} need weighting='fixed'; learned weighting ignores them")
        if unknown := fixed.keys() - set(terms):
            raise ValueError(f"unknown losses {', '.join(sorted(unknown))}; expected some of {', '.join(terms)}")
        if any(weight < 0 for weight in fixed.values()):
            raise ValueError(f"loss weights must be >= 0, found {fixed}")
        self.terms = tuple(terms)
        self.weighting: Weighting = weighting
        self.fixed_weights = tuple(fixed.get(name, 1.0) for name in self.terms)
        self.log_variances = None if weighting == "fixed" else nn.Parameter(torch.zeros(len(self.terms)))
        self.components: dict[str, Tensor] = {}

    def weigh(self, losses: Sequence[Tensor]) -> Tensor:
        """The weighted sum of scalars in the order of the terms; sets `components` to them and their weights."""
        stacked = torch.stack(list(losses))
        if self.log_variances is None:
            weights, penalty = stacked.new_tensor(self.fixed_weights), stacked.new_zeros(())
        else:
            weights = torch.exp(-self.log_variances) / 2
            if self.weighting == "kendall":
                penalty = self.log_variances.sum() / 2
            else:
                penalty = nn.functional.softplus(self.log_variances).sum()
        named = zip(self.terms, stacked.detach(), weights.detach(), strict=True)
        self.components = {}
        for name, loss, weight in named:
            self.components |= {name: loss, f"{name}_weight": weight}
        return (weights * stacked).sum() + penalty

    @property
    def learned_weights(self) -> dict[str, tuple[float, float]]:
        """Log variance s and weight exp(-s) / 2 of each loss by its name; empty where the weights are fixed."""
        if self.log_variances is None:
            return {}
        named = zip(self.terms, self.log_variances.detach().cpu().tolist(), strict=True)
        return {name: (s, math.exp(-s) / 2) for name, s in named}
