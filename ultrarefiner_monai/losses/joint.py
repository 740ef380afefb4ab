"""Loss of joint training (phase 3)."""

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ultrarefiner_monai.losses.coarse import DiceCELoss
from ultrarefiner_monai.losses.refined import RefinedLoss
from ultrarefiner_monai.losses.uncertainty import UncertaintyLoss

if TYPE_CHECKING:
    from ultrarefiner_monai.networks.refiner import Refinement


class JointLoss(UncertaintyLoss):
    """Coarse and refined loss, with learned or fixed weights.

    `"learned"`: weights by homoscedastic uncertainty, `"kendall"` of UncertaintyLoss.
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
        if weighting not in ("learned", "fixed"):
            raise ValueError(f"weighting must be 'learned' or 'fixed', found {weighting!r}")
        weights = {"coarse": coarse_weight, "refined": refined_weight}
        changed = {name: weight for name, weight in weights.items() if weight != 1.0}
        super().__init__(tuple(weights), "fixed" if weighting == "fixed" else "kendall", changed)
        self.coarse_loss = coarse_loss if coarse_loss is not None else DiceCELoss()
        self.refined_loss = refined_loss if refined_loss is not None else RefinedLoss()

    def forward(self, parts: "Refinement", target: Tensor) -> Tensor:
        """Scalar loss of a Refinement against `target` (B, 1, H, W) in {0, 1}."""
        loss = self.weigh([self.coarse_loss(parts.coarse_logits, target), self.refined_loss(parts, target)])
        for name, part in (("coarse", self.coarse_loss), ("refined", self.refined_loss)):
            self.components |= {f"{name}_{key}": value for key, value in part.components.items()}
        return loss
