"""Loss of joint training (phase 3)."""

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ultrarefiner_monai.losses.coarse import DiceCELoss
from ultrarefiner_monai.losses.refined import RefinedLoss

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.refiner import Refinement


class JointLoss(nn.Module):
    """Coarse and refined loss, with learned or fixed weights.

    `"learned"`: sum_i exp(-s_i) L_i / 2 + s_i / 2 (homoscedastic uncertainty, Kendall et al., CVPR 2018).
    `log_variances` = s (2,) starts at 0 and must be among the optimizer's parameters, without weight decay.
    `"fixed"`: coarse_weight * L_coarse + refined_weight * L_refined.

    `components` holds the last call's `coarse` and `refined` losses, their `coarse_weight` and
    `refined_weight`, and both losses' own components as `coarse_ce`, `refined_iou` and so on, detached.

    Args:
        weighting: see above.
        coarse_weight: weight of the coarse loss, fixed weighting only.
        refined_weight: weight of the refined loss, fixed weighting only.
        coarse_loss: loss of the coarse logits, None for DiceCELoss().
        refined_loss: loss of the Refinement, None for RefinedLoss().

    Raises:
        ValueError: for an unknown weighting, a negative weight, or a weight given to learned weighting.
    """

    def __init__(
        self,
        weighting: Literal["learned", "fixed"] = "learned",
        coarse_weight: float = 1.0,
        refined_weight: float = 1.0,
        coarse_loss: DiceCELoss | None = None,
        refined_loss: RefinedLoss | None = None,
    ) -> None:
        super().__init__()
        if weighting not in ("learned", "fixed"):
            raise ValueError(f"weighting must be 'learned' or 'fixed', found {weighting!r}")
        if min(coarse_weight, refined_weight) < 0:
            raise ValueError(f"loss weights must be >= 0, found {coarse_weight} and {refined_weight}")
        if weighting == "learned" and (coarse_weight, refined_weight) != (1.0, 1.0):
            raise ValueError("coarse_weight and refined_weight need weighting='fixed'; learned weighting ignores them")
        self.coarse_loss = coarse_loss if coarse_loss is not None else DiceCELoss()
        self.refined_loss = refined_loss if refined_loss is not None else RefinedLoss()
        self.log_variances = nn.Parameter(torch.zeros(2)) if weighting == "learned" else None
        self.fixed_weights = (coarse_weight, refined_weight)
        self.components: dict[str, Tensor] = {}

    def forward(self, parts: "Refinement", target: Tensor) -> Tensor:
        """Scalar loss of a Refinement against `target` (B, 1, H, W) in {0, 1}."""
        losses = torch.stack([self.coarse_loss(parts.coarse_logits, target), self.refined_loss(parts, target)])
        if self.log_variances is None:
            weights, penalty = losses.new_tensor(self.fixed_weights), losses.new_zeros(())
        else:
            weights, penalty = torch.exp(-self.log_variances) / 2, self.log_variances.sum() / 2
        self.components = self._components(losses.detach(), weights.detach())
        return (weights * losses).sum() + penalty

    @property
    def learned_weights(self) -> dict[str, tuple[float, float]]:
        """Log variance s and weight exp(-s) / 2 of each loss by its name; empty where the weights are fixed."""
        if self.log_variances is None:
            return {}
        named = zip(("coarse", "refined"), self.log_variances.detach().cpu().tolist(), strict=True)
        return {name: (s, math.exp(-s) / 2) for name, s in named}

    def _components(self, losses: Tensor, weights: Tensor) -> dict[str, Tensor]:
        parts = {"coarse": losses[0], "refined": losses[1], "coarse_weight": weights[0], "refined_weight": weights[1]}
        parts |= {f"coarse_{name}": value for name, value in self.coarse_loss.components.items()}
        return parts | {f"refined_{name}": value for name, value in self.refined_loss.components.items()}
