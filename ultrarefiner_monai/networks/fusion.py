"""Fusion of the coarse and the refined mask, the output of the system."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

FusionMode = Literal["none", "mean", "uncertainty", "learned", "hybrid"]
LOGIT_EPS = 1e-6  # fused probabilities are clamped to [eps, 1 - eps]; float32 still resolves it beside 1


def safe_logit(prob: Tensor) -> Tensor:
    """Log-odds of `prob` in float32 at least, finite (within +-13.8) for 0 and 1."""
    return torch.logit(_at_least_float32(prob), eps=LOGIT_EPS)


class Fusion(nn.Module):
    """Fused logits of `p + g (sigmoid(z) - p)` for coarse probability p and refined logits z.

    The gate g (B, 1, H, W) or number, by `mode`:

    - `"none"`: 1, the refined logits replace the coarse mask;
    - `"mean"`: 0.5;
    - `"uncertainty"`: `1 - |2p - 1|^gamma`, 0 where the coarse network is sure, 1 where p = 0.5;
    - `"learned"`: a small CNN on p, sigmoid(z) and that uncertainty, initialised at 0.5;
    - `"hybrid"`: the product of the last two.

    Args:
        mode: the gate.
        gamma: exponent of the uncertainty, >= 1 (below 1 its gradient is infinite at p = 0.5).

    Raises:
        ValueError: for an unknown mode or gamma < 1.
    """

    def __init__(self, mode: FusionMode = "mean", gamma: float = 1.0) -> None:
        super().__init__()
        if mode not in get_args(FusionMode):
            raise ValueError(f"unknown fusion {mode!r}; choose one of {', '.join(get_args(FusionMode))}")
        if gamma < 1:
            raise ValueError(f"fusion gamma must be >= 1, found {gamma}")
        self.mode = mode
        self.gamma = gamma
        self.gate_network = _gate_network() if mode in ("learned", "hybrid") else None

    @property
    def settings(self) -> dict[str, str | float]:
        """What decides the fused mask, beside the weights."""
        return {"mode": self.mode, "gamma": self.gamma}

    def gate(self, prob: Tensor, refined: Tensor) -> Tensor | float:
        """Share of the refined probability in the fused one, in [0, 1]."""
        if self.mode in ("none", "mean"):
            return 1.0 if self.mode == "none" else 0.5
        uncertainty = 1 - (2 * prob - 1).abs().pow(self.gamma)
        if self.gate_network is None:
            return uncertainty
        learned = self.gate_network(torch.cat([prob, refined, uncertainty], 1)).sigmoid()
        return learned * uncertainty if self.mode == "hybrid" else learned

    def forward(self, prob: Tensor, logits: Tensor) -> Tensor:
        """Fuse `prob` (B, 1, H, W) in [0, 1] and `logits` (B, 1, H, W) to logits (B, 1, H, W), in float32."""
        if self.mode == "none":
            return logits
        with torch.autocast(logits.device.type, enabled=False):
            prob, refined = _at_least_float32(prob), _at_least_float32(logits).sigmoid()
            return safe_logit(prob + self.gate(prob, refined) * (refined - prob))


def _at_least_float32(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()


def _gate_network() -> nn.Sequential:
    """Three maps to one gate logit; the last layer starts at zero, so the gate starts at the mean of both masks."""
    last = nn.Conv2d(8, 1, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), last)
